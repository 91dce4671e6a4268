"""LWL on video: what its settings do, and behaviour of our own."""

import pytest
import torch
from continuing import check_goes_on

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.configuration.options import changed, flat
from innerloop_vos.data import synthetic_clip
from innerloop_vos.io.masks import box_to_mask
from innerloop_vos.lwl import LWLOptions, LWLSegmenter, lwl_mobilenet_v2, lwl_small
from innerloop_vos.lwl.tracking.trust import consensus


def small(box=False, **options):
    torch.manual_seed(0)
    network = lwl_small(
        features=16, outputs=4, label_widths=(4, 4, 8), decoder_widths=(8, 8, 8, 8), box=box
    )
    settings = changed(LWLOptions(), output=(96, 160), capacity=3, init_steps=4, **options)
    return LWLSegmenter(network, settings, changed(settings, update_interval=2))


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
        {"first_weight": 0, "squared_weights": False},
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
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6 * found[0].abs().max().item())


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


def test_the_object_in_a_box_is_looked_for_in_a_region_around_it(clip):
    segmenter = small(box=True)
    segmenter.box_options = changed(segmenter.box_options, box_factor=2, box_output=(64, 96))
    box, seen = (40, 20, 60, 40), []

    def segment(images, boxes):
        seen.append((images, boxes))
        return 20 * boxes - 10

    segmenter.network.segment_box = segment
    mask = segmenter.mask_from_box(clip[0][0], box)
    inside = box_to_mask(box, (90, 150))
    assert (mask != inside).float().mean() < 0.02
    ((images, boxes),) = seen
    assert images.shape == (1, 3, 64, 96)
    # The frame bounds the region, else the box would cover a quarter of it.
    assert 0.25 <= boxes.mean() < 0.4


def test_updates_learn_from_what_the_target_model_finds_where_asked(clip):
    torch.manual_seed(0)
    network = lwl_small(outputs=2, label_widths=(4, 4, 8), decoder_widths=(8, 8, 8, 8))
    torch.nn.init.normal_(network.decoder.project.conv3.weight)
    options = changed(LWLOptions(), output=(96, 160), capacity=3, init_steps=4, learn_from="scores")
    segmenter = LWLSegmenter(network, options)
    frames, masks = clip
    segmenter.start(frames[0], masks[0])
    encoded, learned = [], network.label_encoder.forward
    network.label_encoder.forward = lambda masks: encoded.append(masks) or learned(masks)
    segmenter.step(frames[1])
    found = network.decoder.uncorrected(
        segmenter.observation.scores,
        torch.stack([region.crop(frames[1] / 255) for region in segmenter.observation.regions]),
    )
    for region, logits, seen in zip(segmenter.observation.regions, found, encoded[0], strict=True):
        expected = region.crop_mask(region.paste(logits, (90, 150)).sigmoid())
        torch.testing.assert_close(seen, expected)
    released = lwl_small(mask_label=False, label_widths=(4, 4, 8), decoder_widths=(8, 8, 8, 8))
    with pytest.raises(InputError, match="learn_from: 'scores' needs a network with mask_label"):
        LWLSegmenter(released, options)


def coloured(**options):
    """A segmenter of a network that sees colours, and learns from scores."""
    torch.manual_seed(0)
    network = lwl_small(
        features=16, outputs=2, colours=6, label_widths=(4, 4, 8), decoder_widths=(8, 8, 8, 8)
    )
    settings = changed(
        LWLOptions(), output=(96, 160), capacity=3, init_steps=4, learn_from="scores"
    )
    return LWLSegmenter(network, changed(settings, **options))


def test_the_decoder_sees_the_consensus_of_two_filters_and_updates_the_lower_one(clip, monkeypatch):
    frames, masks = clip
    segmenter = coloured(consensus=True)
    segmenter.start(frames[0], masks[0])
    network, before = segmenter.network, segmenter.filters
    assert len(before) == 4
    assert before[::2, :, -6:].count_nonzero() > 0
    assert before[1::2, :, -6:].count_nonzero() == 0
    given, seen = [], []
    decode, uncorrected = network.decoder.forward, network.decoder.uncorrected
    monkeypatch.setattr(
        network.decoder,
        "forward",
        lambda scores, *rest: given.append(scores) or decode(scores, *rest),
    )
    monkeypatch.setattr(
        network.decoder,
        "uncorrected",
        lambda scores, images: seen.append(scores) or uncorrected(scores, images),
    )
    segmenter.step(frames[1])
    patches = torch.stack(
        [region.crop(frames[1] / 255) for region in segmenter.observation.regions]
    )
    features = network.extract(patches)[1]
    plain = network.target_model.without_colours(features)
    both = [
        network.target_model.score(before[i::2], part[:, None])[:, 0]
        for i, part in enumerate((features, plain))
    ]
    assert not torch.allclose(*both)
    shown, learned = consensus(*both)
    torch.testing.assert_close(given[0], shown)
    torch.testing.assert_close(segmenter.observation.scores, given[0])
    torch.testing.assert_close(seen[0], learned)
    # Both learn the same masks, each on what it sees; the second one still sees no colours.
    stored, labels, *_ = segmenter.memory.samples()
    torch.testing.assert_close(stored[::2, 1], features)
    torch.testing.assert_close(stored[1::2, 1], plain)
    assert torch.equal(labels[::2], labels[1::2])
    assert all(not torch.equal(*pair) for pair in zip(before, segmenter.filters, strict=True))
    assert segmenter.filters[1::2, :, -6:].count_nonzero() == 0


@pytest.mark.parametrize("consensus", [False, True])
@pytest.mark.parametrize("away", [(), (1,), (0, 1)])
def test_an_object_that_scores_low_everywhere_is_absent(clip, monkeypatch, consensus, away):
    frames, masks = clip
    segmenter = coloured(presence=0.5, consensus=consensus)
    segmenter.start(frames[0], masks[0])
    network, views = segmenter.network, 1 + consensus
    # Every filter finds both objects at once, but those that are away only faintly.
    scores = torch.zeros(2, views, 2, 12, 20)
    scores[:, :, 0, 4:8, 8:12] = 0.6
    for i in away:
        scores[i, -1, 0] *= 0.8
    monkeypatch.setattr(
        network.decoder, "forward", lambda scores, levels, images: torch.full((2, 96, 160), 9.0)
    )
    monkeypatch.setattr(
        network.target_model, "score", lambda filters, features: scores.flatten(0, 1)[:, None]
    )
    solved = []
    refit = network.target_model.refit
    monkeypatch.setattr(
        network.target_model,
        "refit",
        # Without the scores, which are made up here: no prediction of the filters.
        lambda *given, **rest: solved.append(1) or refit(*given[:4], **rest),
    )
    before = segmenter.filters.unflatten(0, (2, views))
    segmenter.step(frames[1])
    counts = [weights.count for weights in segmenter.memory.weights]
    after = segmenter.filters.unflatten(0, (2, views))
    for i in range(2):
        assert (segmenter.probabilities[1 + i].max() > 0.4) == (i not in away)
        assert counts[i * views : (i + 1) * views] == [1 if i in away else 2] * views
        for view in range(views):
            assert torch.equal(before[i, view], after[i, view]) == (i in away)
    assert len(solved) == (len(away) < 2)
    places = [target.position for target in segmenter.motions]
    segmenter.step(frames[2])
    for i in range(2):
        assert (segmenter.motions[i].position == places[i]) == (i in away)


@pytest.mark.parametrize(
    ("sizes", "options", "needed"),
    [
        ({"mask_label": False}, {"presence": 0.5}, "presence: 0.5 needs a network with mask_label"),
        (
            {"mask_label": False, "colours": 2},
            {"consensus": True},
            "consensus: True needs a network with mask_label",
        ),
        ({}, {"consensus": True}, "consensus: True needs a network with colours"),
    ],
)
def test_what_a_network_cannot_do_is_named(sizes, options, needed):
    network = lwl_small(**sizes, label_widths=(4, 4, 8), decoder_widths=(8, 8, 8, 8))
    for given in (
        {"options": changed(LWLOptions(), **options)},
        {"box_options": changed(LWLOptions(), **options)},
    ):
        with pytest.raises(InputError, match=f"^{needed}"):
            LWLSegmenter(network, **given)


def flat_preset(network):
    return flat(network.preset.mask)


def test_the_small_network_has_settings_of_its_own():
    small, large = flat_preset(lwl_small()), flat_preset(lwl_mobilenet_v2())
    for name, here, there in (
        ("learn_from", "scores", "decoder"),
        ("mirror", True, False),
        ("reach", 1.0, None),
        ("presence", None, None),
        ("consensus", False, False),
    ):
        assert (small[name], large[name]) == (here, there)
    coloured = flat_preset(lwl_small(colours=2))
    assert coloured == small | {"presence": 0.6, "consensus": True}


@pytest.mark.parametrize("reach", [None, 1.0])
def test_what_appears_out_of_reach_is_neither_found_nor_learned(reach):
    network = lwl_small(outputs=2, label_widths=(4, 4, 8), decoder_widths=(8, 8, 8, 8))
    frames, _ = synthetic_clip(2, (96, 160), objects=1, seed=1)
    mask = torch.zeros(96, 160, dtype=torch.uint8)
    mask[56:88, 8:40] = 1
    double = mask.flip(0, 1).bool()
    # Whatever the target model says, the decoder finds the object and its double far from it.
    logits = torch.where(mask.bool() | double, 5.0, -5.0)[None]
    network.decoder.forward = lambda *seen: logits.clone()
    network.decoder.uncorrected = lambda *seen: logits.clone()
    options = changed(
        LWLOptions(), output=(96, 160), search_factor=None, half_cell_shift=False, reach=reach
    )
    segmenter = LWLSegmenter(network, changed(options, learn_from="scores"))
    segmenter.start(frames[0], mask)
    labels = segmenter.step(frames[1])
    learned = segmenter.memory.samples()[1][0, 1:, :1]
    learned = torch.nn.functional.interpolate(learned, (96, 160))[0, 0]
    for seen in (labels.float(), learned):
        assert seen[mask.bool()].mean() > 0.9
        assert (seen[double].mean() > 0.9) == (reach is None)
    assert reach is None or not labels[double].any()


def test_a_mirrored_first_frame_finds_the_object_mirrored_as_well():
    torch.manual_seed(0)
    network = lwl_small(outputs=1, mask_label=True, decoder_widths=(8, 8, 8, 8))
    frames, masks = synthetic_clip(1, (96, 160), objects=1, seed=1)
    options = changed(
        LWLOptions(), output=(96, 160), search_factor=None, init_steps=20, half_cell_shift=False
    )
    agreement = []
    for mirror in (False, True):
        segmenter = LWLSegmenter(network, changed(options, mirror=mirror))
        segmenter.start(frames[0], masks[0])
        assert segmenter.memory.samples()[0].shape[1] == 1 + mirror
        segmenter.step(frames[0].flip(-1))
        mirrored = torch.nn.functional.avg_pool2d(masks[:1].flip(-1).float(), 8)
        pair = torch.stack([segmenter.observation.scores.flatten(), mirrored.flatten()])
        agreement.append(torch.corrcoef(pair)[0, 1])
    assert agreement[1] > agreement[0] > 0
    assert agreement[1] > 0.9
    with pytest.raises(ValueError, match="mirror: True, should be False where first_weight"):
        changed(options, mirror=True, first_weight=None)


def test_a_box_needs_a_box_encoder(clip):
    with pytest.raises(InputError, match="no box encoder"):
        small().mask_from_box(clip[0][0], (40, 20, 60, 40))
    with pytest.raises(InputError, match="does not lie inside"):
        small(box=True).mask_from_box(clip[0][0], (140, 20, 60, 40))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"border": "outside"}, "border"),
        ({"capacity": 1}, "capacity"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"first_weight": 1.0}, "first_weight"),
        ({"update_interval": 0}, "update_interval"),
        ({"init_steps": 0}, "init_steps"),
        ({"update_steps": -1}, "update_steps"),
        ({"search_factor": 0}, "search_factor"),
        ({"presence": 0.0}, "presence"),
        ({"output": (480,)}, "output"),
        ({"scale_change": (1.1, 0.9)}, "scale_change"),
    ],
)
def test_bad_options_are_named(options, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        changed(LWLOptions(), **options)


@pytest.mark.parametrize(
    ("make", "from_boxes"),
    [
        (lambda: small(), False),
        (lambda: small(search_factor=None, mirror=True), False),
        (lambda: small(first_weight=None, reach=1.0), False),
        (lambda: small(box=True), True),
        (lambda: coloured(consensus=True), False),
        (lambda: coloured(consensus=True, presence=0.5), False),
    ],
    ids=["released", "whole frame", "reach", "box", "consensus", "presence"],
)
def test_another_process_goes_on_to_the_same_bits(clip, tmp_path, make, from_boxes):
    frames, masks = clip
    given = {0: masks[0] * (masks[0] == 2), 2: masks[2]}  # the other object appears later
    found = check_goes_on(make, frames, given, tmp_path, from_boxes)
    assert len({labels.numpy().tobytes() for labels in found}) > 1
