"""Clips of two objects, on which the benchmarks of e-OSVOS measure."""

import pytest
import torch

from benchmarks.eosvos.parts.two_objects import MemoryFrames, two_object_clips
from innerloop.errors import InputError
from innerloop_vos.data import Sequence, synthetic_clip


@pytest.fixture(scope="module")
def clips():
    made = [synthetic_clip(6, (96, 160), objects=1, seed=seed) for seed in range(3)]
    names = [f"{index:05d}" for index in range(6)]
    return [Sequence(f"c{i}", MemoryFrames(f, names), list(m)) for i, (f, m) in enumerate(made)]


def test_a_neighbours_object_moves_over_every_clip(clips):
    joined = two_object_clips(clips, 4)
    assert [clip.name for clip in joined] == ["c0+c1", "c1+c2", "c2+c0"]
    for clip, own in zip(joined, clips, strict=True):
        assert len(clip.frames) == len(clip.masks) == 4
        for frame, labels, before, mask in zip(
            clip.frames[:4], clip.masks, own.frames[:4], own.masks[:4], strict=True
        ):
            assert set(labels.unique().tolist()) == {0, 1, 2}
            assert not (labels[mask == 0] == 1).any()
            # But for its seam, all that changed is the visitor.
            changed = (frame != before).any(0)
            visitor = torch.nn.functional.max_pool2d((labels == 2).float()[None], 7, 1, 3)[0] > 0
            assert not (changed & ~visitor).any()
            assert changed[labels == 2].float().mean() > 0.9
        assert (clip.masks[0] == 1).sum() >= 0.3 * (own.masks[0] > 0).sum()


def test_the_same_seed_gives_the_same_clips(clips):
    state = torch.get_rng_state()
    first, second = two_object_clips(clips, 3), two_object_clips(clips, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0].frames[2], second[0].frames[2])
    other = two_object_clips(clips, 3, seed=1)
    assert not torch.equal(first[0].masks[2], other[0].masks[2])


def test_one_clip_has_no_neighbour(clips):
    with pytest.raises(InputError, match=r"1 clip\(s\), should be two or more"):
        two_object_clips(clips[:1], 3)


def test_a_neighbour_whose_object_leaves_is_passed_over(clips):
    one, two, three = clips
    gone = Sequence("gone", two.frames, [*two.masks[:2], *map(torch.zeros_like, two.masks[2:])])
    names = [clip.name for clip in two_object_clips([one, gone, three], 2)]
    assert names == ["c0+gone", "gone+c2", "c2+c0"]
    with pytest.raises(InputError, match="sequence gone: in its first 4 frames, no object"):
        two_object_clips([one, gone, three], 4)
    assert next(clip.name for clip in two_object_clips([one, three, two], 4)) == "c0+c2"
