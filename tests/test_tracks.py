"""Mini-sequences to track, and the windows that follow their objects."""

from itertools import pairwise

import pytest
import torch

from innerloop.errors import InputError
from innerloop_vos.data import Sequence, synthetic_clip
from innerloop_vos.data.sampling import MiniSequence
from innerloop_vos.data.tracks import TrackSampler
from innerloop_vos.data.windows import WindowSampler

SIZE = (60, 90)


def clip(areas, name="clip", unannotated=()):
    """Frame t is of the colour t; object 1 covers `areas[t]` rows of 30 pixels."""
    frames = [torch.full((3, *SIZE), t, dtype=torch.uint8) for t in range(len(areas))]
    masks = []
    for t, rows in enumerate(areas):
        mask = torch.zeros(SIZE, dtype=torch.uint8)
        mask[10 : 10 + rows, 20:50] = 1
        masks.append(None if t in unannotated else mask)
    return Sequence(name, frames, masks)


def times(sample):
    return [int(frame[0, 0, 0]) for frame in sample.frames]


def test_tracks_begin_where_the_object_is_large_and_go_on():
    torch.manual_seed(0)
    areas = [20 if t < 50 else 5 for t in range(60)]
    sampler = TrackSampler([clip(areas)], length=4, fastest=6)
    for _ in range(50):
        drawn = times(sampler.sample())
        assert areas[drawn[0]] == 20
        steps = [b - a for a, b in pairwise(drawn)]
        assert all(0 < abs(step) <= 10 for step in steps)
    starts = [times(sampler.sample()) for _ in range(60)]
    assert any(sample[1] < sample[0] for sample in starts)
    assert any(sample[1] > sample[0] for sample in starts)


def test_an_object_may_vanish_in_one_frame():
    torch.manual_seed(0)
    sampler = TrackSampler([clip([20, 20, 0, 20, 20, 20])], length=3, fastest=1)
    hidden = [sum(not mask.any() for mask in sampler.sample().masks) for _ in range(40)]
    assert set(hidden) == {0, 1}


def test_frames_without_annotation_are_left_out():
    torch.manual_seed(0)
    sampler = TrackSampler([clip([20] * 9, unannotated=(1, 2, 4, 5, 7, 8))], length=3, fastest=1)
    assert {t for _ in range(20) for t in times(sampler.sample())} == {0, 3, 6}


def test_an_image_is_repeated():
    sample = TrackSampler([clip([20])], length=3).sample()
    assert times(sample) == [0, 0, 0]
    assert all(frame is sample.frames[0] for frame in sample.frames)


def test_clips_without_a_large_object_are_refused():
    with pytest.raises(InputError, match="no object of 300 pixels"):
        TrackSampler([clip([3, 3])], length=2).sample()


class _Always:
    def __init__(self, sample):
        self._sample = sample

    def sample(self):
        return self._sample


def moving(count=3):
    frames, masks = synthetic_clip(length=count, size=(120, 200), objects=1, seed=3)
    return MiniSequence(list(frames), [mask == 1 for mask in masks])


@pytest.mark.parametrize("around", [None, (1.2, 3.0)])
def test_windows_show_the_object_first_and_are_the_same_again(around):
    sampler = WindowSampler(_Always(moving()), (64, 112), around)
    torch.manual_seed(0)
    images, masks = sampler.batch(4)
    assert images.shape == (4, 3, 3, 64, 112)
    assert masks.shape == (4, 3, 64, 112)
    assert masks.unique().tolist() == [0, 1]
    assert (masks[:, 0].sum((1, 2)) > 200).all()
    assert images.min() >= 0
    assert images.max() <= 1
    torch.manual_seed(0)
    again = sampler.batch(4)
    assert torch.equal(images, again[0])
    assert torch.equal(masks, again[1])


def test_windows_around_an_object_are_in_proportion_to_it():
    torch.manual_seed(0)
    sampler = WindowSampler(_Always(moving()), (64, 112), (1.5, 1.5))
    _, masks = sampler.batch(8)
    for mask in masks[:, 0]:
        rows, columns = (mask.any(axis).sum().item() for axis in (1, 0))
        # Up to its augmentation, which zooms and turns.
        assert 0.4 < max(rows / 64, columns / 112) < 0.9


def test_images_move_and_clips_move_less():
    torch.manual_seed(0)
    still = moving(1)
    repeated = MiniSequence(still.frames * 3, still.masks * 3)
    images, masks = WindowSampler(_Always(repeated), (64, 112)).batch(6)
    assert (masks[:, 0] != masks[:, 2]).flatten(1).any(1).all()
    assert not torch.equal(images[:, 0], images[:, 1])


def test_a_mask_follows_its_image():
    torch.manual_seed(0)
    frame = torch.zeros(3, 120, 200, dtype=torch.uint8)
    mask = torch.zeros(120, 200, dtype=torch.bool)
    mask[30:80, 60:130] = True
    frame[:, mask] = 255
    sampler = WindowSampler(_Always(MiniSequence([frame] * 3, [mask] * 3)), (64, 112))
    images, masks = sampler.batch(10)
    bright = images.mean(2) > images.mean(2).amax((2, 3), keepdim=True) / 2
    assert ((bright == (masks > 0.5)).float().mean((2, 3)) > 0.97).all()


def test_objects_too_large_for_a_window_are_refused():
    mask = torch.ones(120, 200, dtype=torch.bool)
    frame = torch.zeros(3, 120, 200, dtype=torch.uint8)
    sampler = WindowSampler(_Always(MiniSequence([frame], [mask])), (64, 112))
    with pytest.raises(InputError, match="no object covers"):
        sampler.batch(1)
