"""LWL on video: what its settings do, and behaviour of our own."""

import pytest
import torch
from continuing import check_goes_on
from lwl_tiny import tiny_lwl

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.configuration.options import changed
from innerloop_vos.data import synthetic_clip
from innerloop_vos.lwl import LWLOptions, LWLSegmenter


def small(box=False, **options):
    settings = changed(LWLOptions(), output=(96, 160), capacity=3, init_steps=4, **options)
    return LWLSegmenter(tiny_lwl(box=box), settings, changed(settings, update_interval=2))


@pytest.fixture(scope="module")
def clip():
    return synthetic_clip(length=6, size=(90, 150), objects=2, seed=1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"search_factor": None},
        {"border": "inside"},
        {"border": "replicate", "half_cell_shift": False},
        {"first_weight": None},
        {"first_weight": 0, "squared_weights": False, "geometric": True},
    ],
)
def test_every_option_segments_a_clip(clip, options):
    frames, masks = clip
    segmenter = small(**options)
    assert torch.equal(segmenter.start(frames[0], masks[0] * (masks[0] == 2)) > 0, masks[0] == 2)
    for t in range(1, 6):
        labels = segmenter.step(frames[t], masks[t] if t == 2 else None)
        assert labels.shape == (90, 150)
        assert segmenter.probabilities.isfinite().all()
        torch.testing.assert_close(segmenter.probabilities.sum(0), torch.ones(90, 150))
    assert segmenter.ids == [2, 1]


def test_objects_learn_in_one_batch_what_each_learns_alone(clip):
    frames, masks = clip
    together = small()
    together.start(frames[0], masks[0])
    for i in (1, 2):
        alone = small()
        alone.start(frames[0], masks[0] * (masks[0] == i))
        torch.testing.assert_close(together.filters[i - 1], alone.filters[0])


def test_objects_in_the_whole_frame_share_its_features(clip):
    frames, masks = clip
    segmenter = small(search_factor=None)
    segmenter.start(frames[0], masks[0])
    seen = []
    segmenter.network.feature_extractor.register_forward_hook(
        lambda module, images, found: seen.append(len(images[0]))
    )
    segmenter.step(frames[1])
    assert seen == [1]
    assert len(segmenter.filters) == 2


def test_without_room_for_more_the_first_frame_is_learned_from_alone(clip):
    frames, masks = clip
    settings = changed(LWLOptions(), output=(96, 160), capacity=1, init_steps=2, update_steps=3)
    updated = LWLSegmenter(tiny_lwl(), settings)
    updated.start(frames[0], masks[0])
    updated.step(frames[1])
    longer = LWLSegmenter(tiny_lwl(), changed(settings, init_steps=2 + 3))
    longer.start(frames[0], masks[0])
    torch.testing.assert_close(updated.filters, longer.filters)


def test_a_sample_counts_once_or_squared(clip):
    frames, masks = clip
    filters = []
    for squared in (True, False):
        segmenter = small(squared_weights=squared)
        segmenter.start(frames[0], masks[0])
        first = segmenter.filters
        segmenter.step(frames[1])
        features, labels, weights, _, shares = segmenter.memory.samples()
        weights = weights * (shares if squared else shares.sqrt())[:, :, None, None, None]
        expected = segmenter.network.target_model.fit(features, labels, weights, first, steps=3)
        torch.testing.assert_close(segmenter.filters, expected.detach())
        filters.append(segmenter.filters)
    assert not torch.allclose(*filters)


@pytest.mark.parametrize("solver", [None, il.ConjugateGradient()])
def test_the_memory_holds_the_scores_of_its_samples(clip, solver):
    frames, masks = clip
    segmenter = small()
    if solver:
        segmenter.network.target_model.solver = solver
    segmenter.start(frames[0], masks[0] * (masks[0] == 1))
    for t in range(1, 6):
        segmenter.step(frames[t], masks[t] * (masks[t] == 2) if t == 2 else None)
        features, _, _, scores, shares = segmenter.memory.samples()
        expected = segmenter.network.target_model.score(segmenter.filters, features)
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
        assert features[0, 0].is_contiguous(memory_format=torch.contiguous_format) is False
    assert (shares > 0).sum() == 6


def test_updates_from_remembered_scores_are_those_from_new_ones(clip, monkeypatch):
    frames, masks = clip
    found = []
    for remembered in (True, False):
        segmenter = small()
        target = segmenter.network.target_model
        if not remembered:
            refit = target.refit
            monkeypatch.setattr(
                target, "refit", lambda x, e, w, i=None, s=None, *, f=refit, **k: f(x, e, w, i, **k)
            )
        segmenter.start(frames[0], masks[0])
        for frame in frames[1:]:
            segmenter.step(frame)
        found.append(segmenter.filters)
    # A hundred times the precision of float32, for five frames of several steps.
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5 * found[0].abs().max().item())


def test_an_object_without_a_mask_keeps_its_region(clip):
    frames, masks = clip
    segmenter = small(min_area=90 * 150 + 1)
    segmenter.start(frames[0], masks[0])
    before = [(target.position, target.scale) for target in segmenter.motions]
    segmenter.step(frames[1])
    assert before == [(target.position, target.scale) for target in segmenter.motions]


def test_a_box_gives_a_mask_and_the_settings_that_follow_it(clip):
    frames, masks = clip
    segmenter = small(box=True)
    mask = segmenter.mask_from_box(frames[0], (40, 20, 60, 40))
    assert mask.shape == (90, 150)
    assert set(mask.unique().tolist()) <= {0, 1}
    segmenter.start(frames[0], masks[0], from_boxes=True)
    learned = []
    for t in range(1, 5):
        before = segmenter.filters
        segmenter.step(frames[t])
        learned.append(not torch.equal(before, segmenter.filters))
    assert learned == [False, True, False, True]
    segmenter.start(frames[0], masks[0])
    assert segmenter.options.update_interval == 1


def test_a_box_needs_a_box_encoder(clip):
    with pytest.raises(InputError, match="no box encoder"):
        small().mask_from_box(clip[0][0], (40, 20, 60, 40))
    with pytest.raises(InputError, match="does not lie inside"):
        small(box=True).mask_from_box(clip[0][0], (140, 20, 60, 40))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"border": "outside"}, "border"),
        ({"capacity": 0}, "capacity"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"first_weight": 1.0}, "first_weight"),
        ({"update_interval": 0}, "update_interval"),
        ({"init_steps": 0}, "init_steps"),
        ({"update_steps": -1}, "update_steps"),
        ({"search_factor": 0}, "search_factor"),
        ({"output": (480,)}, "output"),
        ({"scale_change": (1.1, 0.9)}, "scale_change"),
    ],
)
def test_bad_options_are_named(options, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        changed(LWLOptions(), **options)


@pytest.mark.parametrize(
    ("options", "from_boxes"),
    [
        ({}, False),
        ({"search_factor": None}, False),
        ({"first_weight": None}, False),
        ({"box": True}, True),
    ],
    ids=["released", "whole frame", "no first weight", "box"],
)
def test_another_process_goes_on_to_the_same_bits(clip, tmp_path, options, from_boxes):
    frames, masks = clip
    given = {0: masks[0] * (masks[0] == 2), 2: masks[2]}  # the other object appears later
    found = check_goes_on(lambda: small(**options), frames, given, tmp_path, from_boxes)
    assert len({labels.numpy().tobytes() for labels in found}) > 1
