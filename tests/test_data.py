import numpy as np
import pytest
import torch
from PIL import Image
from shared import SHARED, needs_shared

from innerloop.errors import InputError
from innerloop_vos.data.davis import DavisDataset
from innerloop_vos.data.folder import FolderDataset
from innerloop_vos.data.synthetic import synthetic_clip, synthetic_image
from innerloop_vos.io.masks import write_mask

SIZE = (6, 8)


def labels(*ids):
    mask = torch.zeros(SIZE, dtype=torch.uint8)
    for column, id_ in enumerate(ids):
        mask[2:4, column] = id_
    return mask


def make_frames(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", SIZE[::-1]).save(folder / f"{name}.jpg")


def make_masks(folder, masks):
    folder.mkdir(parents=True)
    for name, mask in masks.items():
        write_mask(folder / f"{name}.png", mask)


NAMES = ["00000", "00001", "00002"]


@pytest.fixture
def davis(tmp_path):
    """Two sequences of two objects in the layout of DAVIS 2017."""
    for name in ("dog", "bear"):
        make_frames(tmp_path / "JPEGImages/480p" / name, NAMES)
        make_masks(tmp_path / "Annotations/480p" / name, dict.fromkeys(NAMES, labels(1, 2)))
    write_list(tmp_path, "2017/val.txt", "dog\nbear\n")
    return tmp_path


def write_list(root, name, text):
    path = root / "ImageSets" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_two_masks_of_one_frame_are_refused(davis):
    folder = davis / "Annotations/480p/bear"
    Image.new("L", SIZE[::-1]).save(folder / "00001.bmp")
    with pytest.raises(InputError, match=r"00001\.\w+ and .*00001\.\w+ share the name 00001"):
        DavisDataset(davis, year=2017, split="val")["bear"]


def test_masks_of_other_formats(davis):
    folder = davis / "Annotations/480p/bear"
    for name, suffix in zip(NAMES, ("gif", "tif", "bmp"), strict=True):
        with Image.open(folder / f"{name}.png") as image:
            (image.convert("RGB") if suffix == "bmp" else image).save(folder / f"{name}.{suffix}")
        (folder / f"{name}.png").unlink()
    masks = DavisDataset(davis, year=2017, split="val")["bear"].masks
    assert masks.annotated == [0, 1, 2]
    assert all(torch.equal(mask, labels(1, 2)) for mask in masks)


def test_davis_2017(davis):
    data = DavisDataset(davis, year=2017, split="val")
    assert len(data) == 2
    assert data.names == [sequence.name for sequence in data] == ["dog", "bear"]
    sequence = data["bear"]
    assert sequence.frames.names == NAMES
    assert len(sequence.masks) == 3
    assert sequence.masks.annotated == [0, 1, 2]
    assert torch.equal(sequence.masks[1], labels(1, 2))
    assert [sequence.name for sequence in data[1:]] == ["bear"]
    assert data[-1].name == "bear"


def test_in_2016_every_id_is_object_1(davis):
    write_list(davis, "2016/val.txt", "bear\n")
    data = DavisDataset(davis, year=2016)
    assert data.names == ["bear"]
    assert torch.equal(data[0].masks[0], labels(1, 1))


def test_a_2016_list_names_pairs_of_files(davis):
    lines = [
        f"/JPEGImages/480p/{name}/{frame}.jpg /Annotations/480p/{name}/{frame}.png \n"
        for name in ("dog", "bear")
        for frame in NAMES
    ]
    write_list(davis, "480p/trainval.txt", "".join(lines))
    assert DavisDataset(davis, split="trainval").names == ["dog", "bear"]


def test_the_list_of_the_year_is_preferred(davis):
    write_list(davis, "480p/val.txt", "bear\n")
    assert DavisDataset(davis, year=2016).names == ["bear"]
    assert DavisDataset(davis, year=2017).names == ["dog", "bear"]


def test_named_sequences_need_no_list(davis):
    assert DavisDataset(davis, split="absent", sequences=["bear"]).names == ["bear"]


def test_an_unknown_split_is_answered_with_those_there_are(davis):
    write_list(davis, "480p/train.txt", "bear\n")
    with pytest.raises(InputError, match=r"unknown split 'test-dev'.* are train, val"):
        DavisDataset(davis, year=2017, split="test-dev")


def test_an_empty_list(davis):
    write_list(davis, "2017/val.txt", "\n")
    with pytest.raises(InputError, match="names no sequence"):
        DavisDataset(davis, year=2017)


@pytest.mark.parametrize("name", ["cat"])
def test_a_missing_sequence(davis, name):
    with pytest.raises(InputError, match=f"sequence '{name}' is missing"):
        DavisDataset(davis, sequences=["dog", name])


def test_an_unknown_name(davis):
    with pytest.raises(InputError, match="unknown sequence 'cat'; there are dog, bear"):
        DavisDataset(davis, year=2017)["cat"]


def test_a_sequence_without_masks(davis):
    make_frames(davis / "JPEGImages/480p/cat", NAMES)
    with pytest.raises(InputError, match="'cat' has no masks"):
        DavisDataset(davis, sequences=["cat"])


def test_folders_that_are_not_davis(davis):
    with pytest.raises(InputError, match="no JPEGImages/480p"):
        DavisDataset(davis / "absent")
    with pytest.raises(InputError, match="no JPEGImages/1080p"):
        DavisDataset(davis, resolution="1080p")
    with pytest.raises(InputError, match="2016 or 2017, got 2018"):
        DavisDataset(davis, year=2018)


def test_a_missing_last_frame_is_noticed_by_its_mask(davis):
    (davis / "JPEGImages/480p/dog/00002.jpg").unlink()
    with pytest.raises(InputError, match="00002 is missing"):
        DavisDataset(davis, year=2017)["dog"]


def test_a_mask_of_another_size(davis):
    path = davis / "Annotations/480p/dog/00001.png"
    write_mask(path, torch.zeros(6, 7, dtype=torch.uint8))
    masks = DavisDataset(davis, year=2017)["dog"].masks
    assert masks[0] is not None
    with pytest.raises(InputError, match=f"{path} is 7x6 .* frame is 8x6"):
        masks[1]


def test_a_corrupt_mask(davis):
    path = davis / "Annotations/480p/dog/00001.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=str(path)):
        DavisDataset(davis, year=2017)["dog"].masks[1]


def test_folders_with_objects_that_appear_later(tmp_path):
    names = ["00000", "00005", "00010"]
    make_frames(tmp_path / "JPEGImages/clip10", names)
    make_frames(tmp_path / "JPEGImages/clip9", names)
    masks = {"00000": labels(1), "00010": labels(1, 2)}
    make_masks(tmp_path / "Annotations/clip9", masks)
    data = FolderDataset(tmp_path)
    assert data.names == ["clip9", "clip10"]
    assert data["clip10"].masks is None
    masks = data["clip9"].masks
    assert masks.annotated == [0, 2]
    assert masks[1] is None
    assert [mask is None for mask in masks] == [False, True, False]
    assert torch.equal(masks[2], labels(1, 2))
    assert [mask is None for mask in masks[1:]] == [True, False]
    assert FolderDataset(tmp_path, ["clip9"]).names == ["clip9"]


def test_folders_of_another_layout(tmp_path):
    with pytest.raises(InputError, match="JPEGImages/SEQ"):
        FolderDataset(tmp_path)
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(InputError, match="holds no folder"):
        FolderDataset(tmp_path)
    with pytest.raises(InputError, match="'clip' is missing"):
        FolderDataset(tmp_path, ["clip"])


@needs_shared
def test_the_real_davis_2016():
    data = DavisDataset(SHARED / "data/DAVIS2016", split="train")
    assert len(data) == 30
    assert data.names[:2] == ["bear", "bmx-bumps"]
    assert sum(len(sequence.frames) for sequence in data) == 2079
    bear = data["bear"]
    assert bear.frames.size == (480, 854)
    assert bear.masks.annotated == list(range(82))
    assert bear.masks[77].unique().tolist() == [0, 1]  # the one of grey and alpha
    with pytest.raises(InputError, match="are train, val_visible"):
        DavisDataset(SHARED / "data/DAVIS2016", split="val")


# --- synthetic clips ----------------------------------------------------------------------------


def test_a_synthetic_clip_is_made_by_its_seed():
    frames, masks = synthetic_clip(length=3, size=(48, 64), objects=2, seed=5)
    assert (frames.shape, frames.dtype) == ((3, 3, 48, 64), torch.uint8)
    assert (masks.shape, masks.dtype) == ((3, 48, 64), torch.uint8)
    torch.manual_seed(1)
    again = synthetic_clip(length=3, size=(48, 64), objects=2, seed=5)
    assert torch.equal(again[0], frames)
    assert torch.equal(again[1], masks)
    other = synthetic_clip(length=3, size=(48, 64), objects=2, seed=6)
    assert not torch.equal(other[0], frames)


@pytest.mark.parametrize("seed", range(5))
def test_synthetic_objects_start_apart_and_occlude_each_other(seed):
    _, masks = synthetic_clip(length=9, size=(120, 216), objects=3, seed=seed)
    assert masks[0].unique().tolist() == [0, 1, 2, 3]
    touching = (masks[:, 1:] != masks[:, :-1]) & (masks[:, 1:] > 0) & (masks[:, :-1] > 0)
    assert not touching[0].any()
    assert touching.any()


def test_a_late_synthetic_object():
    _, masks = synthetic_clip(length=9, size=(48, 64), objects=3, late=True)
    assert [3 in mask for mask in masks] == [False] * 3 + [True] * 6


def test_synthetic_masks_fit_the_frames():
    """Across the edge of a mask the frame changes more than elsewhere, and nowhere beside it."""
    frames, masks = synthetic_clip(length=4, size=(120, 216), objects=3, seed=1)
    change = (frames[..., 1:].float() - frames[..., :-1].float()).abs().sum(dim=1)
    edge = masks[..., 1:] != masks[..., :-1]
    shifted = torch.roll(edge, 4, dims=-1) & ~edge
    assert change[edge].mean() > 2 * change[~edge].mean()
    assert change[edge].mean() > 2 * change[shifted].mean()


def test_synthetic_images_vary():
    images = [synthetic_image(size=(48, 64), objects=1, seed=seed) for seed in range(8)]
    assert all(image.shape == (3, 48, 64) and mask.any() for image, mask in images)
    means = np.array([image.float().mean((1, 2)).numpy() for image, _ in images])
    assert means.std(axis=0).min() > 10


@pytest.mark.parametrize("wrong", [{"length": 0}, {"size": (15, 64)}, {"objects": 0}])
def test_synthetic_clips_out_of_range(wrong):
    with pytest.raises(InputError, match="synthetic clip needs"):
        synthetic_clip(**wrong)
