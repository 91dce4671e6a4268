"""Whole frames to train on: drawn from clips, augmented, and opened from the command line."""

import argparse

import pytest
import torch
from davis_layout import write_davis

from innerloop.errors import InputError
from innerloop_vos.data import Sequence, scenes
from innerloop_vos.data.foreground import ForegroundSampler
from innerloop_vos.data.sampling import MiniSequence
from innerloop_vos.data.scenes import SceneSampler
from innerloop_vos.io.masks import write_mask
from innerloop_vos.training.data import add_data_arguments, open_foreground


def clip(values, size=(20, 30)):
    """A clip whose frames and masks hold these values; None: no mask."""
    frames = [torch.full((3, *size), index, dtype=torch.uint8) for index in range(len(values))]
    masks = [None if v is None else torch.full(size, v, dtype=torch.uint8) for v in values]
    return Sequence("clip", frames, masks)


def test_frames_of_a_clip_are_drawn_uniformly_and_differ():
    sampler = ForegroundSampler([clip([0, None, 3, 7])], 2)
    torch.manual_seed(0)
    pairs = [sampler.sample() for _ in range(300)]
    drawn = [tuple(int(frame[0, 0, 0]) for frame in pair.frames) for pair in pairs]
    assert set(drawn) == {(a, b) for a in (0, 2, 3) for b in (0, 2, 3) if a != b}
    assert all(30 < drawn.count(each) < 70 for each in set(drawn))
    for pair in pairs:
        for frame, mask in zip(pair.frames, pair.masks, strict=True):
            assert mask.dtype == torch.bool
            assert mask.all() == (frame[0, 0, 0] > 0)  # whatever the object's id


def test_an_image_is_drawn_several_times_and_clips_without_masks_never():
    sampler = ForegroundSampler([clip([None, None]), clip([5])], 3)
    assert [len(sampler.sample().frames) for _ in range(20)] == [3] * 20
    with pytest.raises(InputError, match="none of 100 that were drawn has an annotated frame"):
        ForegroundSampler([clip([None])], 2).sample()


class Still:
    """Draws a frame whose left half is white and the object."""

    def __init__(self, length=2, size=(60, 100)):
        mask = torch.zeros(size, dtype=torch.bool)
        mask[:, : size[1] // 2] = True
        frame = (255 * mask).byte().expand(3, -1, -1)
        self.made = MiniSequence([frame] * length, [mask] * length)

    def sample(self):
        return self.made


def test_frames_and_masks_are_changed_alike(monkeypatch):
    monkeypatch.setattr(scenes, "_BLANK", 0.0)
    torch.manual_seed(0)
    images, masks = SceneSampler(Still(), (48, 64)).batch(30)
    assert images.shape == (30, 2, 3, 48, 64)
    assert masks.shape == (30, 2, 48, 64)
    assert ((masks == 0) | (masks == 1)).all()
    assert images.min() >= 0
    assert images.max() <= 1 + 1e-6
    # White is the object, but for the seam, in every look.
    inside = images.mean(2) > 0.5 * images.amax((2, 3, 4))[..., None, None]
    assert (inside == (masks > 0)).float().mean() > 0.95
    # Mirrored together, and seen differently.
    left = masks[..., :32].mean((2, 3)) > masks[..., 32:].mean((2, 3))
    both = masks.mean((2, 3))
    decided = ((both > 0.05) & (both < 0.95)).all(1)
    assert (left[decided, 0] == left[decided, 1]).all()
    assert 0.2 < left.float().mean() < 0.8
    assert not (masks[:, 0] == masks[:, 1]).all()


def test_some_frames_are_blank_and_show_nothing(monkeypatch):
    monkeypatch.setattr(scenes, "_BLANK", 0.25)
    torch.manual_seed(0)
    images, masks = SceneSampler(Still(1), (48, 64)).batch(100)
    blank = images.std((3, 4)).amax(2)[:, 0] < 0.05
    assert 10 < blank.sum() < 45
    assert not masks[blank].any()


@pytest.mark.parametrize("size", [(40, 100), (100, 40), (30, 40), (1, 1)])
def test_frames_of_any_shape_fill_the_output(size):
    images, _ = SceneSampler(Still(1, size), (48, 64)).batch(3)
    assert images.shape == (3, 1, 3, 48, 64)
    assert images.isfinite().all()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    davis = write_davis(root / "davis", ["cat", "cow"], length=3)
    write_davis(root / "made", ["dog"], length=1)
    own = root / "own"
    for kind in ("JPEGImages", "Annotations"):
        (own / kind).mkdir(parents=True)
        (root / "made" / kind / "480p" / "dog").rename(own / kind / "dog")
        (root / "davis" / kind / "480p" / "cat").rename(own / kind / "cat")
    (davis / "ImageSets/480p/train.txt").write_text("cow\n")
    write_mask(own / "Annotations/dog/00000.png", torch.full((64, 80), 9, dtype=torch.uint8))
    return davis, own


def opened(*words):
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    return open_foreground(parser.parse_args(list(map(str, words))), 2)


def drawn(sampler):
    return [[clip.name for clip in source.clips] for source in sampler.samplers]


def test_clips_of_one_frame_are_images(data):
    davis, own = data
    videos, images, validation = opened("--davis", davis, "--clips", own)
    assert drawn(videos) == [["cow"], ["cat"]]
    assert drawn(images) == [["dog"]]
    assert not validation.clips
    assert [len(each.sample().frames) for each in (videos, images)] == [2, 1]
    assert images.sample().masks[0].all()
    videos, images, validation = opened("--davis", davis, "--clips", own, "--held-out", "cow,dog")
    assert drawn(videos) == [["cat"]]
    assert images is None
    assert [clip.name for clip in validation.clips] == ["cow", "dog"]
    with pytest.raises(InputError, match="no sequence is left to train on"):
        opened("--davis", davis, "--held-out", "cow")
