"""Blank frames: ridge marks next to nothing in them, and continues after them."""

import pytest
import torch

from innerloop_vos.backbones import backbone
from innerloop_vos.data import synthetic_clip
from innerloop_vos.postprocessing.calibration import calibrate
from innerloop_vos.ridge import RidgeSegmenter


def constant(frame, value):
    return torch.full_like(frame, value)


BLANK = {
    "black": lambda frame: constant(frame, 0),
    "white": lambda frame: constant(frame, 255),
    "grey": lambda frame: constant(frame, 128),
    "almost black": lambda frame: (frame.float() * 0.03).byte(),
    "almost white": lambda frame: (255 - (255 - frame.float()) * 0.03).byte(),
    "dark noise": lambda frame: torch.randint(
        0, 6, frame.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ),
}


@pytest.fixture(scope="module")
def network():
    return backbone("small")


@pytest.mark.parametrize("kind", BLANK)
@pytest.mark.parametrize("seed", [0, 3])
def test_a_blank_frame_shows_nothing(network, kind, seed):
    frames, masks = synthetic_clip(length=6, seed=seed)
    segmenter = RidgeSegmenter(network)
    segmenter.start(frames[0], masks[0])
    segmenter.step(frames[1])
    for frame in frames[2:4]:
        labels = segmenter.step(BLANK[kind](frame))
        assert (labels > 0).float().mean() < 0.05
    found, true = segmenter.step(frames[4]) > 0, masks[4] > 0
    assert (found & true).sum() > 0.5 * (found | true).sum()


def test_scores_of_one_class_lie_below_the_decision():
    make = torch.Generator().manual_seed(0)
    flat = 0.3 + 0.05 * torch.randn(40, 60, generator=make)
    assert (calibrate(flat) > 0).any()
    assert not (calibrate(flat, apart=0.4) > 0).any()
    flat[10:20, 10:20] = 0.9
    assert torch.equal(calibrate(flat, apart=0.4) > 0, flat == 0.9)
