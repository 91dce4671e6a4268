"""Annotated images as clips of one frame."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.lwl import stills
from innerloop.errors import InputError
from innerloop_vos.data import FolderDataset


@pytest.fixture
def images(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (80, 40), (90, 120, 30)).save(folder / f"{name}.jpg")
    (tmp_path / "labels").mkdir()
    return tmp_path


def test_polygons_become_ids_the_small_ones_on_top(images):
    square = "3 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"
    small = "5 0.5 0.5 0.65 0.5 0.65 0.7 0.5 0.7"
    tiny, all_ = "1 0 0 0.01 0 0.01 0.01", "1 0 0 1 0 1 1 0 1"
    (images / "labels" / "a.txt").write_text("\n".join([small, square, tiny, all_]))
    (images / "labels" / "b.txt").write_text(tiny)  # nothing large enough
    (images / "labels" / "c.txt").write_text(square)  # no image
    stills.main([str(images / "labels"), str(images / "out")])
    (clip,) = FolderDataset(images / "out")
    labels = clip.masks[0]
    assert labels.shape == (40, 80)
    assert labels[15, 25] == 1
    assert labels[24, 45] == 2
    assert labels[5, 5] == 0
    assert labels.unique().tolist() == [0, 1, 2]


def test_label_maps_become_one_object(images):
    ids = np.zeros((40, 80), np.uint8)
    ids[10:20, 10:40], ids[20:30, 10:40] = 7, 41
    Image.fromarray(ids).save(images / "labels" / "a.png")
    assert stills.convert(images / "labels", images / "out") == 1
    (clip,) = FolderDataset(images / "out")
    assert np.array_equal(clip.masks[0].numpy(), ids > 0)


def test_a_folder_without_labels_is_refused(images):
    with pytest.raises(InputError, match="holds no labels"):
        stills.convert(images / "labels", images / "out")
