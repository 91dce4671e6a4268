"""Clips of things cut out of photographs."""

import math
import sys

import pytest
import torch
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.data import photo_clip, photographs
from innerloop_vos.data.cutouts import CUTOUTS, cut, signed_distance
from innerloop_vos.data.photo_clips import _sprite
from innerloop_vos.data.photographs import photograph


def _radii(side):
    """The distance of pixels to the centre of a square from -1 to 1."""
    at = (torch.arange(side) + 0.5) * (2 / side) - 1
    return torch.hypot(at[:, None], at[None, :])


def test_a_clip_is_made_by_its_seed():
    frames, masks = photo_clip(length=3, size=(48, 64), seed=5)
    assert (frames.shape, frames.dtype) == ((3, 3, 48, 64), torch.uint8)
    assert (masks.shape, masks.dtype) == ((3, 48, 64), torch.uint8)
    torch.manual_seed(1)
    again = photo_clip(length=3, size=(48, 64), seed=5)
    assert torch.equal(again[0], frames)
    assert torch.equal(again[1], masks)
    assert not torch.equal(photo_clip(length=3, size=(48, 64), seed=6)[0], frames)


@pytest.mark.parametrize("seed", range(8))
def test_the_things_start_apart_and_occlude_each_other(seed):
    _, masks = photo_clip(length=9, seed=seed)
    assert masks[0].unique().tolist() == [0, 1, 2, 3]
    touching = (masks[:, 1:] != masks[:, :-1]) & (masks[:, 1:] > 0) & (masks[:, :-1] > 0)
    assert not touching[0].any()
    assert touching.any()


@pytest.mark.parametrize("name", CUTOUTS)
def test_a_pixel_belongs_to_the_thing_that_covers_half_of_it(name):
    """The mask against the same thing drawn eight times as large."""
    size, fine = (100, 120), 8
    sprite = _sprite(CUTOUTS[name], 200, torch.Generator().manual_seed(2))
    sprite.meeting = 63.3, 48.6
    mask = torch.zeros(size, dtype=torch.uint8)
    sprite.paint(0.3, torch.zeros(3, *size), mask, 1)

    # The centre of pixel 0 is at (fine - 1) / 2 of the finer ones.
    sprite.meeting = tuple(fine * x + (fine - 1) / 2 for x in sprite.meeting)
    sprite.radius *= fine
    finer = torch.zeros(size[0] * fine, size[1] * fine, dtype=torch.uint8)
    sprite.paint(0.3, torch.zeros(3, *finer.shape), finer, 1)
    covered = F.avg_pool2d(finer[None].float(), fine)[0]
    differs = (mask == 1) != (covered >= 0.5)
    assert differs.sum() < 0.01 * mask.sum()
    assert mask.sum() == pytest.approx(float(covered.sum()), rel=0.005)


def test_the_distance_to_the_edge_of_a_circle():
    turns = torch.arange(200) * (2 * math.pi / 200)
    side = 100
    distance = signed_distance(0.8 * torch.stack([turns.cos(), turns.sin()], dim=1), side)
    torch.testing.assert_close(distance, 0.8 - _radii(side), rtol=0, atol=2e-4)
    area = float((distance >= 0).sum()) * (2 / side) ** 2
    assert area == pytest.approx(math.pi * 0.8**2, rel=0.005)


@pytest.mark.parametrize("name", CUTOUTS)
def test_outlines_lie_in_their_photographs(name):
    height, width = photograph(CUTOUTS[name].photograph).shape[1:]
    assert all(1 < x < width - 1 and 1 < y < height - 1 for x, y in CUTOUTS[name].outline)
    texture, inside = cut(CUTOUTS[name], 64)
    assert 0 <= texture.min() < texture.max() <= 1
    assert 0.15 < (inside >= 0).float().mean() < 0.8
    assert _radii(64)[inside >= 0].max() < 1  # so that it can turn


def test_the_edge_has_the_colours_of_the_thing():
    """Beside the white cup, the photograph shows a brown table."""
    texture, inside = cut(CUTOUTS["coffee"], 128)
    middle = slice(60, 68)
    row = int((inside[:, 64] >= 0).nonzero()[0])
    assert texture[:, row - 3 : row + 3, middle].min() > 0.6


def test_small_frames():
    frames, _ = photo_clip(length=1, size=(16, 16), objects=4)
    assert frames.float().std() > 10


@pytest.mark.parametrize("wrong", [{"length": 0}, {"size": (15, 64)}, {"objects": 5}])
def test_clips_out_of_range(wrong):
    with pytest.raises(InputError, match="1 to 4 objects; got length"):
        photo_clip(**wrong)


def test_no_code_of_scikit_image_runs():
    photograph("coffee.png")
    assert not any(name.partition(".")[0] == "skimage" for name in sys.modules)


def test_without_scikit_image(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(photographs, "find_spec", lambda name: None)
    assert main(["demo", "--method", "ridge", "--out", str(tmp_path / "demo")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "scikit-image, which is not installed: pip install 'innerloop[vos]'" in line
    assert not (tmp_path / "demo").exists()


def test_a_photograph_that_is_missing():
    with pytest.raises(InputError, match=r"dog\.png"):
        photograph("dog.png")
