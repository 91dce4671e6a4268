"""The reader of COCO, on a few images in its layout."""

import argparse
import json

import numpy as np
import pytest
import torch
from davis_layout import write_davis
from PIL import Image

from innerloop.errors import InputError
from innerloop_vos.data import coco
from innerloop_vos.data.coco import CocoDataset
from innerloop_vos.data.jitter import CropSampler
from innerloop_vos.data.pasting import PastingSampler
from innerloop_vos.data.sampling import ClipSampler
from innerloop_vos.training.data import add_data_arguments, open_data

# Of pycocotools and NumPy 2 between themselves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 40, 60


def rectangle(x, y, width, height):
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def runs(x, y, width, height):
    """A rectangle as uncompressed run lengths, down the columns."""
    inside = torch.zeros(WIDTH, HEIGHT)
    inside[x : x + width, y : y + height] = 1
    values, counts = inside.flatten().unique_consecutive(return_counts=True)
    first = [0] if values[0] else []  # the lengths start with background
    return {"size": [HEIGHT, WIDTH], "counts": first + counts.tolist()}


OBJECTS = {
    # A large object, one on top of it in two parts, and a crowd.
    "two.jpg": [
        ([rectangle(5, 5, 4, 4), rectangle(12, 5, 6, 4)], 0),
        ([rectangle(2, 2, 30, 20)], 0),
        (runs(40, 0, 20, 40), 1),
    ],
    "runs.jpg": [(runs(10, 20, 8, 12), 0)],
    "crowd.jpg": [(runs(0, 0, 60, 40), 1)],
    "empty.jpg": [],
    # What annotations hold too: two points, half a point, nothing.
    "degenerate.jpg": [
        ([[1, 1, 9, 9]], 0),
        ([[1, 1, 9, 9, 1]], 0),
        ([], 0),
        ([rectangle(0, 0, 20, 10)], 0),
    ],
}


def write_coco(root, objects):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "train2017").mkdir(exist_ok=True)
    images, annotations = [], []
    for id_, (name, instances) in enumerate(objects.items(), start=100):
        # COCO has grey images among the others.
        Image.new("L" if name == "runs.jpg" else "RGB", (WIDTH, HEIGHT), 90).save(
            root / "train2017" / name
        )
        images.append({"id": id_, "file_name": name, "height": HEIGHT, "width": WIDTH})
        annotations += [
            {"id": len(annotations) + i, "image_id": id_, "segmentation": shape, "iscrowd": crowd}
            for i, (shape, crowd) in enumerate(instances)
        ]
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / "coco", OBJECTS)


def test_images_are_clips_of_one_frame(root):
    data = CocoDataset(root)
    assert [clip.name for clip in data] == ["two", "runs", "degenerate"]
    clip = data[1]
    assert len(data) == 3
    assert (len(clip.frames), len(clip.masks)) == (1, 1)
    assert clip.frames[0].shape == (3, HEIGHT, WIDTH)
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    expected[20:32, 10:18] = 1
    assert torch.equal(clip.masks[0], expected)
    assert all(map(torch.equal, clip.masks, [expected]))
    assert clip.masks[1:] == []
    assert [c.name for c in data[1:]] == ["runs", "degenerate"]


def test_small_objects_lie_on_large_ones_and_crowds_are_background(root):
    labels = CocoDataset(root)[0].masks[0]
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    expected[2:22, 2:32] = 1
    expected[5:9, 5:9] = 2
    expected[5:9, 12:18] = 2
    assert torch.equal(labels, expected)


def test_polygons_without_area_are_background(root):
    labels = CocoDataset(root)[2].masks[0]
    assert labels[:10, :20].eq(1).all()
    assert labels.count_nonzero() == 200


def test_compressed_run_lengths(tmp_path):
    pycoco = pytest.importorskip("pycocotools.mask")
    packed = pycoco.frPyObjects(runs(10, 20, 8, 12), HEIGHT, WIDTH)
    packed["counts"] = packed["counts"].decode()
    data = CocoDataset(write_coco(tmp_path, {"packed.jpg": [(packed, 0)]}))
    assert data[0].masks[0][20:32, 10:18].sum() == data[0].masks[0].sum() == 96


def test_an_image_becomes_a_mini_sequence(root):
    torch.manual_seed(0)
    sampler = ClipSampler(CocoDataset(root), length=3)
    drawn = [sampler.sample() for _ in range(40)]
    assert {int(sample.masks[0].sum()) for sample in drawn} == {600 - 40, 40, 96, 200}
    assert all(torch.equal(s.masks[0], m) for s in drawn for m in s.masks)
    images, masks = CropSampler(PastingSampler(sampler, 0.5), (32, 32)).batch(4)
    assert images.shape == (4, 3, 3, 32, 32)
    # Augmentation makes the copies differ, as frames of a clip do.
    assert not any(torch.equal(mask[0], mask[1]) for mask in masks)


def test_trainings_draw_images_among_clips(root, tmp_path):
    davis = write_davis(tmp_path / "DAVIS", ["cat"])
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    for line, sizes in (
        (f"--coco {root}", {(HEIGHT, WIDTH)}),
        (f"--coco {root} --davis {davis} --ratio 1:1:1:1", {(HEIGHT, WIDTH), (64, 80)}),
    ):
        torch.manual_seed(0)
        sampler, _ = open_data(parser.parse_args(line.split()), 2, 100, 0.0)
        assert {tuple(sampler.sample().masks[0].shape) for _ in range(20)} == sizes


def edit(root, change):
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("folder", ["cam1", "cam1/morning"])
def test_images_in_subfolders(tmp_path, folder):
    (tmp_path / "train2017" / folder).mkdir(parents=True)
    root = write_coco(tmp_path, {f"{folder}/a.jpg": [([rectangle(0, 0, 20, 10)], 0)]})
    (clip,) = CocoDataset(root)
    assert clip.name == "a"
    assert clip.masks[0].sum() == 200


@pytest.mark.parametrize("name", ["../a.jpg", "cam1/../../a.jpg", "/etc/a.jpg"])
def test_images_outside_the_folder_are_refused(root, name):
    def change(content):
        content["images"][0]["file_name"] = name

    edit(root, change)
    with pytest.raises(InputError, match=f"{name} is not a file inside"):
        CocoDataset(root)


def test_annotations_of_images_that_are_not_listed_are_left_out(root):
    edit(root, lambda content: content["annotations"].append({"image_id": 1, "segmentation": []}))
    assert len(CocoDataset(root)) == 3


@pytest.mark.parametrize("annotated", ["as stored", "as shown"])
def test_annotations_of_an_image_that_viewers_turn(tmp_path, annotated):
    root = write_coco(tmp_path, {"a.jpg": [([rectangle(2, 4, 20, 10)], 0)]})
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stored[4:14, 2:22] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn to the right
    if annotated == "as shown":
        stored = np.rot90(stored, 1)
    path = root / "train2017" / "a.jpg"
    Image.fromarray(stored).save(path, exif=turned.tobytes(), quality=95)
    (clip,) = CocoDataset(root)
    object_ = clip.masks[0].bool()
    assert object_.sum() == 200
    assert torch.equal(clip.frames[0][0] > 127, object_)


def test_missing_images_are_named(root):
    (root / "train2017" / "runs.jpg").unlink()
    with pytest.raises(InputError, match=r"train2017/runs\.jpg is missing, as are 0 others"):
        CocoDataset(root)


def test_an_image_of_another_size(root):
    edit(root, lambda content: content["images"][0].update(width=61))
    with pytest.raises(InputError, match=r"two\.jpg is 60x40 .* annotations are of 61x40"):
        CocoDataset(root)[0]


@pytest.mark.parametrize(
    "shape",
    [
        [[1, 2, 3, 4, 5, None]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [[0, 0, "a", 0, 4, 4]],
        5,
        {"size": [HEIGHT, WIDTH + 1], "counts": [0, 20]},
        {"size": [HEIGHT, WIDTH], "counts": [3, -2, 5]},
        {"size": [HEIGHT, WIDTH], "counts": [3, 2, 5000]},
        {"counts": [3]},
    ],
)
def test_damaged_objects_are_named(tmp_path, shape):
    data = CocoDataset(write_coco(tmp_path, {"bad.jpg": [(shape, 0)]}))
    with pytest.raises(InputError, match=r"instances_train2017\.json is damaged: .* bad\.jpg"):
        data[0].masks[0]


def test_folders_that_are_not_coco(root, monkeypatch):
    with pytest.raises(InputError, match=r"no .*annotations/instances_val2017\.json"):
        CocoDataset(root, "val2017")
    edit(root, lambda content: content.pop("annotations"))
    with pytest.raises(InputError, match=r"is damaged: .*KeyError\('annotations'\)"):
        CocoDataset(root)
    edit(root, lambda content: content.update(annotations=[]))
    with pytest.raises(InputError, match="names no image with an object"):
        CocoDataset(root)
    monkeypatch.setattr(coco, "coco", None)
    with pytest.raises(InputError, match=r"pip install innerloop\[train\]"):
        CocoDataset(root)
