"""The clips that trainings are given on the command line."""

import argparse
import shutil

import pytest
import torch
from davis_layout import write_davis

from innerloop.errors import InputError
from innerloop_vos.segmenter import Segmenter
from innerloop_vos.training.data import add_data_arguments, open_data
from innerloop_vos.training.validation import Validation


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("davis"), ["cat", "cow", "dog"])


@pytest.fixture(scope="module")
def own(davis, tmp_path_factory):
    """The user's own clips: the folders of DAVIS without that of its resolution, other names."""
    root = tmp_path_factory.mktemp("own")
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(davis / kind / "480p" / "cow", root / kind / "mine")
    return root


def opened(*words):
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    return open_data(parser.parse_args(list(map(str, words))), 2, 100, 0.0)


def drawn(sampler):
    """The names of the clips of each data set that it draws from."""
    return [[clip.name for clip in source.clips] for source in sampler.sampler.samplers]


def test_clips_of_several_data_sets_are_drawn_in_ratio(davis, own):
    words = ("--davis", davis, "--clips", own, "--ratio", "0:3:1", "--held-out", "dog,mine")
    sampler, validation = opened(*words[:4], *words[6:])
    assert drawn(sampler) == [["cat", "cow"]]
    assert [clip.name for clip in validation.clips] == ["dog", "mine"]
    sampler, validation = opened(*words[:6])
    assert drawn(sampler) == [["cat", "cow", "dog"], ["mine"]]
    assert sampler.sampler.ratio.tolist() == [3, 1]
    assert not validation.clips
    torch.manual_seed(0)
    assert len(sampler.sample().frames) == 2


def test_a_ratio_of_zero_is_refused(davis, own):
    with pytest.raises(InputError, match=r"ratio: 0\.0, 1\.0; should be a positive number"):
        opened("--davis", davis, "--clips", own, "--ratio", "1:0:1")


class FirstMask(Segmenter):
    """Gives the first mask for every frame."""

    def start(self, frame, masks, *, from_boxes=False):
        self.first = masks
        return masks

    def step(self, frame, masks=None):
        return self.first

    def mask_from_box(self, frame, box):
        left, top, width, height = box
        mask = torch.zeros(frame.shape[1:], dtype=torch.uint8)
        mask[top : top + height, left : left + width] = 1
        return mask

    reset = encode = add = trust = keep = track = update = None


def test_held_out_clips_are_scored(davis):
    _, validation = opened("--davis", davis, "--held-out", "dog,cat", "--held-out-frames", 4)
    assert validation.frames == 4
    figures = validation.figures(FirstMask())
    assert figures.keys() == {"held out/J", "held out/F", "J/dog", "J/cat"}
    assert figures["held out/J"] == pytest.approx((figures["J/dog"] + figures["J/cat"]) / 2)
    assert 0 < figures["held out/J"] < 1
    from_box = validation.figures(FirstMask(), boxes=True)
    assert 0 < from_box["held out/J"] < figures["held out/J"]
    assert Validation([], 4).figures(FirstMask()) == {}
