"""Corrections: the true masks of a frame, which a user gives while a video is segmented.

Those of e-OSVOS are tested with its segmenter.
"""

from copy import deepcopy
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from continuing import check_goes_on
from lwl_tiny import tiny_lwl
from rvos_tiny import tiny

from innerloop_vos.agame import AGAMEOptions, AGAMESegmenter, agame
from innerloop_vos.backbones import backbone
from innerloop_vos.configuration.options import changed
from innerloop_vos.data import synthetic_clip
from innerloop_vos.lwl import LWLOptions, LWLSegmenter
from innerloop_vos.lwl_lite import LWLLiteSegmenter, lwl_lite
from innerloop_vos.ridge import RidgeSegmenter
from innerloop_vos.rvos import RVOSSegmenter, rvos
from innerloop_vos.scoring import region_similarity

SIZE = (64, 104)


def lwl_segmenter():
    settings = changed(LWLOptions(), output=(64, 96), capacity=2, init_steps=4)
    return LWLSegmenter(tiny_lwl(), settings, changed(settings, first_weight=None))


def agame_segmenter():
    torch.manual_seed(0)
    return AGAMESegmenter(agame(features=8), AGAMEOptions(learning_rate=0.1, min_area=0))


def lite_segmenter():
    torch.manual_seed(0)
    return LWLLiteSegmenter(lwl_lite(features=12, outputs=4))


ALONE = {  # whose objects learn nothing of each other
    "ridge": lambda: RidgeSegmenter(backbone("small")),
    "lwl": lwl_segmenter,
    "lwl-lite": lite_segmenter,
    "a-game": agame_segmenter,
}
TINY = ALONE | {"rvos": lambda: RVOSSegmenter(tiny())}

SHIPPED = {
    "ridge": ALONE["ridge"],
    "lwl-lite": lambda: LWLLiteSegmenter(lwl_lite("default")),
    "a-game": lambda: AGAMESegmenter(agame("default")),
    "rvos": lambda: RVOSSegmenter(rvos("default")),
}


def with_each(methods):
    return pytest.mark.parametrize("make", methods.values(), ids=methods)


@pytest.fixture(scope="module")
def clip():
    return synthetic_clip(length=5, size=SIZE, objects=2, seed=1)


@cache
def larger_clip(seed):
    return synthetic_clip(length=24, size=(120, 208), objects=2, seed=seed)


def only(masks, id_):
    return masks * (masks == id_)


@with_each(SHIPPED)
def test_a_lost_object_is_followed_again(make):
    frames, masks = larger_clip(1)
    segmenter = make()
    segmenter.start(frames[0], only(masks[0], 1))
    frames, masks = 255 - frames[13:16], only(masks[13:16], 1)
    segmenter.step(frames[0])  # in which all colours are others, and a distractor is nearer
    state = segmenter.state_dict()
    scores = []
    for corrected in (False, True):
        segmenter = make()
        segmenter.load_state_dict(state)
        if corrected:
            assert torch.equal(segmenter.correct(frames[0], masks[0]), masks[0])
        found = [segmenter.step(frame) for frame in frames[1:]]
        pairs = zip(found, masks[1:], strict=True)
        scores.append([region_similarity(ours == 1, true == 1) for ours, true in pairs])
    assert max(scores[0]) < 0.2
    assert min(scores[1]) > 0.4


def test_scores_of_lwl_know_a_corrected_frame(clip):
    # The label is the mask itself: then the scores say without a trained decoder what was learned.
    frames, masks = clip
    settings = changed(LWLOptions(), output=(64, 96), search_factor=None, capacity=2)
    segmenter = LWLSegmenter(tiny_lwl(labels="mask", label_weights="one", outputs=1), settings)
    later, true = 255 - frames[3:], only(masks, 1)[3:]
    segmenter.start(frames[0], only(masks[0], 1))
    apart = []
    for corrected in (False, True):
        if corrected:
            segmenter.correct(later[0], true[0])
        segmenter.step(later[1])
        scores = segmenter.observation.scores[0]
        inside = F.adaptive_avg_pool2d(true[1:].float(), scores.shape[-2:])
        means = [(scores * share).sum() / share.sum() for share in (inside, 1 - inside)]
        apart.append(means[0] - means[1])
    assert apart[1] > apart[0] + 0.1


@with_each({name: SHIPPED[name] for name in ("ridge", "lwl-lite", "a-game")})
def test_an_object_that_is_said_to_be_absent_is_found_when_it_returns(make):
    (frames, masks), (others, _) = larger_clip(1), larger_clip(21)
    segmenter = make()
    segmenter.start(frames[0], only(masks[0], 1))
    segmenter.step(others[0])
    assert not segmenter.correct(others[1], torch.zeros_like(masks[0])).any()
    assert segmenter.ids == [1]
    assert not segmenter.step(others[2]).any()
    assert region_similarity(segmenter.step(frames[2]) == 1, masks[2] == 1) > 0.8


@with_each(TINY)
def test_another_process_goes_on_from_a_correction_to_the_same_bits(clip, tmp_path, make):
    frames, masks = clip[0][:4], clip[1]
    start = {0: only(masks[0], 2)}
    # A new object; then one that is absent.
    corrections = {1: masks[1], 2: only(masks[2], 1)}
    found = check_goes_on(make, frames, start, tmp_path, corrections=corrections)
    for index, true in corrections.items():
        assert torch.equal(found[index], true)


def test_lwl_goes_on_from_a_corrected_box_to_the_same_bits(clip, tmp_path):
    frames, masks = clip
    start, corrections = {0: masks[0]}, {1: only(masks[1], 1), 3: masks[3]}
    check_goes_on(lwl_segmenter, frames, start, tmp_path, True, corrections)


@with_each(TINY)
def test_tracking_again_is_as_if_nothing_else_had_been_tracked(clip, make):
    frames, masks = clip
    whole, parts = make(), make()
    for segmenter in (whole, parts):
        segmenter.start(frames[0], masks[0])
    for frame in frames[1:]:
        whole.step(frame)
    for segmenter in (whole, parts):
        segmenter.correct(frames[2], masks[2])
    backwards = [[segmenter.step(frames[t]) for t in (1, 0)] for segmenter in (whole, parts)]
    assert torch.equal(whole.probabilities, parts.probabilities)
    assert all(map(torch.equal, *backwards))
    whole.correct(frames[2], masks[2])
    whole.step(frames[3])
    # The frame was given twice; what was found before it says nothing.
    parts.correct(frames[2], masks[2])
    parts.step(frames[3])
    assert torch.equal(whole.probabilities, parts.probabilities)


@with_each(ALONE)
def test_objects_are_followed_as_before_when_others_are_forgotten(clip, make):
    frames, masks = clip
    both, one = make(), make()
    for segmenter in (both, one):
        segmenter.start(frames[0], masks[0])
        segmenter.correct(frames[1], masks[1])
    one.forget([1])
    with torch.no_grad():
        expected, found = (each.track(each.encode(frames[2])).logits for each in (both, one))
    torch.testing.assert_close(found, expected[1:], rtol=1e-3, atol=1e-3)


@with_each(TINY)
def test_objects_come_and_go(clip, make):
    frames, masks = clip
    segmenter = make()
    segmenter.start(frames[0], masks[0])
    segmenter.forget([2])
    segmenter.step(frames[1])
    segmenter.correct(frames[1], masks[1])
    assert segmenter.ids == [1, 2]
    segmenter.forget([1])
    again = make()
    again.load_state_dict(deepcopy(segmenter.state_dict()))
    for frame in frames[2:4]:
        assert torch.equal(segmenter.step(frame), again.step(frame))
    assert segmenter.probabilities.shape == (2, *SIZE)
    torch.testing.assert_close(segmenter.probabilities.sum(0), torch.ones(SIZE))


def test_without_room_for_more_lwl_learns_from_given_frames_alone(clip):
    frames, masks = clip
    settings = changed(LWLOptions(), output=(64, 96), capacity=1, update_steps=0)
    segmenter = LWLSegmenter(tiny_lwl(), settings)
    segmenter.start(frames[0], masks[0])
    segmenter.correct(frames[1], masks[1])
    before = segmenter.filters
    segmenter.step(frames[2])
    assert segmenter.memory.samples()[-1].tolist() == [[0.5, 0.5]] * 2
    assert torch.equal(segmenter.filters, before)


def test_given_samples_stay_in_a_full_memory(clip):
    frames, masks = clip
    segmenter = lwl_segmenter()
    segmenter.start(frames[0], masks[0])
    segmenter.correct(frames[1], masks[1])
    before = [part[:, :2].clone() for part in segmenter.memory.samples()[:3]]
    for _ in range(3):
        for frame in frames:
            segmenter.step(frame)
    *parts, _, weights = segmenter.memory.samples()
    assert weights.shape == (2, 3)
    assert (weights[:, :2] >= 0.249).all()
    for old, new in zip(before, parts, strict=True):
        assert torch.equal(old, new[:, :2])


def test_gaussians_of_given_frames_weigh_alike(clip):
    frames, masks = clip
    torch.manual_seed(0)
    segmenter = AGAMESegmenter(agame(features=8, components=2), AGAMEOptions(learning_rate=0.5))
    alone = []
    for frame, mask in zip(frames[:3], masks[:3], strict=True):
        segmenter.start(frame, mask)
        alone.append(segmenter.gaussians["mean"])
    segmenter.start(frames[0], masks[0])
    for frame, mask in zip(frames[1:3], masks[1:3], strict=True):
        segmenter.step(frame)
        segmenter.correct(frame, mask)
    torch.testing.assert_close(segmenter.gaussians["mean"], sum(alone) / 3)


def test_the_states_of_rvos_are_those_of_a_new_start(clip):
    frames, masks = clip
    old, new = (RVOSSegmenter(tiny()) for _ in range(2))
    old.start(frames[0], masks[0])
    old.step(frames[1])
    old.correct(frames[2], masks[2])
    new.start(frames[2], masks[2])
    assert torch.equal(old.step(frames[3]), new.step(frames[3]))
    assert torch.equal(old.probabilities, new.probabilities)


@with_each(ALONE)
def test_states_of_before_there_were_corrections_load(clip, make):
    frames, masks = clip
    segmenter = make()
    segmenter.start(frames[0], masks[0])
    segmenter.step(frames[1])
    state = segmenter.state_dict()
    added = ("count", "given")
    strip = partial(without, added)
    old = make()
    old.load_state_dict(state | {"learned": strip(state["learned"])})
    assert torch.equal(segmenter.correct(frames[2], masks[2]), old.correct(frames[2], masks[2]))


def without(names, state):
    """A nested state without what has these names, but for the number of samples of LWL."""
    if isinstance(state, dict):
        gone = set(names) - ({"count"} if "latest" in state else set())
        return {name: without(names, part) for name, part in state.items() if name not in gone}
    return [without(names, part) for part in state] if isinstance(state, list) else state
