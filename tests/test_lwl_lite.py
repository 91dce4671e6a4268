"""LWL-lite: its networks, what it remembers, and how it tracks."""

import argparse
import json
import math
from dataclasses import replace

import pytest
import torch
from continuing import check_goes_on
from torch.nn import functional as F

import innerloop as il
from benchmarks.lwl import speed
from innerloop.errors import InputError
from innerloop_vos.data import synthetic_clip
from innerloop_vos.lwl_lite.builders import lwl_lite, save_lwl_lite
from innerloop_vos.lwl_lite.memory import TargetMemory
from innerloop_vos.lwl_lite.model.features import TargetFeatures
from innerloop_vos.lwl_lite.model.label_encoder import LabelEncoder
from innerloop_vos.lwl_lite.model.target_model import TargetModel
from innerloop_vos.lwl_lite.options import SPEEDS, LWLLiteOptions
from innerloop_vos.lwl_lite.segmenter import LWLLiteSegmenter
from innerloop_vos.methods.registry import add_method_arguments, build_segmenter


def network(seed=0, **sizes):
    torch.manual_seed(seed)
    return lwl_lite(**({"features": 12, "outputs": 4} | sizes))


@pytest.fixture(scope="module")
def clip():
    return synthetic_clip(length=5, size=(90, 150), objects=2, seed=1)


def seen_levels(net, images):
    with torch.no_grad():
        return net.backbone(images)


def side_by_side(inputs, size):
    finer = {True: {"mode": "area"}, False: {"mode": "bilinear", "align_corners": False}}
    parts = inputs.values()
    return torch.cat([F.interpolate(p, size, **finer[p.shape[-2] > size[0]]) for p in parts], dim=1)


def test_features_are_a_projection_of_all_levels_side_by_side():
    net, images = network(), torch.rand(2, 3, 70, 101)
    features: TargetFeatures = net.target_features
    levels = seen_levels(net, images)
    found = features(levels, images)
    assert found.shape == (2, 12, 9, 13)
    joined = side_by_side(features.inputs(levels, images), (9, 13))
    weight = torch.cat([p.weight for p in features.projections.values()], dim=1)
    expected = torch.cat([F.conv2d(joined, weight), torch.full((2, 1, 9, 13), 0.3)], dim=1)
    scale = found.flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    torch.testing.assert_close(found, scale.view(-1, 1, 1, 1) * expected, rtol=1e-4, atol=1e-5)
    # A patch of 3x3 has the norm 1 on average.
    torch.testing.assert_close(9 * found.square().sum(1).mean((1, 2)), torch.ones(2))


def test_the_projection_starts_from_principal_components():
    net, images = network(), torch.rand(3, 3, 64, 96)
    features, levels = net.target_features, seen_levels(net, images)
    features.start_from(levels, images)
    rows = torch.cat([p.weight[..., 0, 0] for p in features.projections.values()], dim=1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(11), atol=1e-5, rtol=0)
    joined = side_by_side(features.inputs(levels, images), (8, 12))
    samples = joined.movedim(1, 0).flatten(1)
    values = torch.linalg.svdvals(samples.double())[:11].square().sum()
    torch.testing.assert_close((rows @ samples).square().sum().double(), values, rtol=1e-4, atol=0)


def test_the_first_label_is_the_mask_and_the_weights_balance():
    torch.manual_seed(0)
    encoder = LabelEncoder(5)
    masks = torch.zeros(2, 64, 88)
    masks[0, 8:24, 16:48] = 1  # of whole label pixels
    masks[1] = torch.rand(64, 88)
    labels, weights = encoder(masks)
    assert labels.shape == (2, 5, 8, 11)
    assert weights.shape == (2, 1, 8, 11)
    torch.testing.assert_close(labels[:, 0], F.avg_pool2d(masks[:, None], 8)[:, 0])
    square = weights[0, 0].square()
    inside = labels[0, 0] == 1
    torch.testing.assert_close(square[inside].sum(), square[~inside].sum())
    torch.testing.assert_close(square.mean(), torch.tensor(1.0))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_of_one_class_has_finite_weights(value):
    labels, weights = LabelEncoder(3)(torch.full((1, 40, 48), value))
    assert labels.isfinite().all()
    assert weights.isfinite().all()


def test_filters_are_the_dense_solution():
    torch.manual_seed(0)
    model = TargetModel().double()
    features = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    labels = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    weights = torch.rand(2, 1, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        filters = model.fit(model.statistics(features, labels, weights))
        scores = model.score(filters, features)
    rows = F.unfold(features, 3, padding=1)
    weighed = rows * weights.flatten(2).square() / 42
    gram = weighed @ rows.mT
    gram += model.log_regularization.exp().detach() * torch.eye(27, dtype=torch.float64)
    expected = torch.linalg.solve(gram, weighed @ labels.flatten(2).mT).mT
    torch.testing.assert_close(filters.flatten(2), expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(scores.flatten(2), expected @ rows, rtol=1e-6, atol=1e-9)
    # One frame for all objects.
    shared = model.score(filters, features[:1])
    torch.testing.assert_close(shared[1].flatten(1), expected[1] @ rows[0], rtol=1e-6, atol=1e-9)


def some_statistics(count, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return il.Statistics.conv(draw(count, 1, 2, 5, 5), draw(count, 1, 3, 5, 5), kernel=3)


@pytest.mark.parametrize("first_weight", [0.0, 0.3, 0.9])
def test_memory_is_a_weighted_sum_of_all_frames(first_weight):
    rate, frames = 0.2, [some_statistics(2, seed) for seed in range(6)]
    memory = TargetMemory(rate, first_weight)
    memory.start(frames[0])
    for frame in frames[1:]:
        memory.add(frame)
    shares = [(1 - rate) ** 5] + [rate * (1 - rate) ** (5 - t) for t in range(1, 6)]
    first = max(first_weight, shares[0])
    shares = [first] + [share * (1 - first) / (1 - shares[0]) for share in shares[1:]]
    expected = sum(share * frame.gram for share, frame in zip(shares, frames, strict=True))
    assert sum(shares) == pytest.approx(1)
    torch.testing.assert_close(memory.statistics().gram, expected)


def test_memory_of_objects_that_come_later_or_were_not_seen():
    memory = TargetMemory(0.5, 0.0)
    first, other = some_statistics(1, 0), some_statistics(1, 1)
    memory.start(first)
    new = some_statistics(1, 2)
    memory.add(new)
    memory.start(other)
    both = some_statistics(2, 3)
    memory.add(both, of=torch.tensor([False, True]))
    gram = memory.statistics().gram
    torch.testing.assert_close(gram[0], 0.5 * first.gram[0] + 0.5 * new.gram[0])
    torch.testing.assert_close(gram[1], 0.5 * other.gram[0] + 0.5 * both.gram[1])


def test_given_frames_weigh_alike_and_what_was_found_is_forgotten():
    rate, least = 0.2, 0.3
    memory, frames = TargetMemory(rate, least), [some_statistics(2, seed) for seed in range(14)]
    memory.start(frames[0])
    memory.add(frames[1])
    memory.trust(frames[2])
    torch.testing.assert_close(memory.statistics().gram, (frames[0] + frames[2]).gram / 2)
    for frame in frames[3:]:
        memory.add(frame)
    shares = [rate * (1 - rate) ** (13 - t) for t in range(3, 14)]
    given = 2 * least / (2 * least + 1 - least)  # each as the first one, beside the others
    assert given > (1 - rate) ** 11
    shares = [share * (1 - given) / sum(shares) for share in shares]
    expected = sum(share * frame.gram for share, frame in zip(shares, frames[3:], strict=True))
    expected = expected + given * (frames[0] + frames[2]).gram / 2
    torch.testing.assert_close(memory.statistics().gram, expected)


def test_memory_of_one_frame_is_that_frame():
    memory, first = TargetMemory(0.1, 0.5), some_statistics(2, 0)
    memory.start(first)
    torch.testing.assert_close(memory.statistics().moment, first.moment)


def test_gradients_pass_the_closed_form():
    torch.manual_seed(0)
    net = network(outputs=3).double().train()
    net.requires_grad_(False)
    head = net.label_encoder.weight_head.weight.requires_grad_(True)
    with torch.no_grad():
        first, second = (net.see(torch.rand(1, 3, 64, 96, dtype=torch.float64)) for _ in range(2))
    mask = torch.zeros(1, 64, 96, dtype=torch.float64)
    mask[0, 16:40, 20:60] = 1
    target = torch.rand(1, 3, 8, 12, dtype=torch.float64)

    def loss():
        memory = TargetMemory(0.1, 0.5)
        memory.start(net.learn(first, mask))
        memory.add(net.learn(second, 0.5 * mask))
        scores = net.target_model.score(net.target_model.fit(memory.statistics()), second.features)
        return (scores - target).square().mean()

    (gradient,) = torch.autograd.grad(loss(), head)
    direction = torch.randn_like(head)
    with torch.no_grad():
        ends = []
        for step in (1e-5, -2e-5):
            head += step * direction
            ends.append(loss())
    slope = (ends[0] - ends[1]) / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=0)


def segmenter(**options):
    return LWLLiteSegmenter(network(), LWLLiteOptions(**options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"short_side": 64},
        {"half": True},
        {"first_weight": 0.0, "learning_rate": 0.9},
    ],
)
def test_every_option_segments_a_clip(clip, options):
    frames, masks = clip
    tracker = segmenter(**options)
    assert torch.equal(tracker.start(frames[0], masks[0] * (masks[0] == 2)) > 0, masks[0] == 2)
    for t in range(1, 5):
        labels = tracker.step(frames[t], masks[t] if t == 2 else None)
        assert labels.shape == (90, 150)
        torch.testing.assert_close(tracker.probabilities.sum(0), torch.ones(90, 150))
    assert tracker.ids == [2, 1]
    assert tracker.filters.shape == (2, 4, 12, 3, 3)


def test_an_object_is_found_again_where_nothing_moves():
    # A red square: untrained, the first score alone, which is ridge regression, finds it.
    frame = torch.full((3, 96, 160), 90, dtype=torch.uint8)
    frame += torch.randint(0, 40, frame.shape, dtype=torch.uint8)
    frame[0, 24:72, 40:104] = 250
    mask = torch.zeros(96, 160, dtype=torch.uint8)
    mask[24:72, 40:104] = 1
    net = network(features=40)
    image = frame[None].float() / 255
    net.target_features.start_from(seen_levels(net, image), image)
    tracker = LWLLiteSegmenter(net)
    tracker.start(frame, mask)
    for _ in range(3):
        found = tracker.step(frame)
    both, either = ((found & mask) > 0).sum(), ((found | mask) > 0).sum()
    assert both / either > 0.85


def test_an_object_that_is_not_there_teaches_nothing(clip):
    frames, masks = clip
    tracker = segmenter(min_area=10**6)
    tracker.start(frames[0], masks[0])
    before = tracker.filters.clone()
    tracker.step(frames[1])
    assert torch.equal(tracker.filters, before)


def test_the_anchor_is_the_first_frames(clip):
    frames, masks = clip
    segmenter = LWLLiteSegmenter(network())
    one, both = ((masks[0] == 1).byte(), masks[0])
    segmenter.start(frames[0], one)
    first = segmenter.filters[:, :1].clone()
    segmenter.step(frames[1])
    segmenter.step(frames[2], (both == 2) * both)  # another object comes in
    assert torch.equal(segmenter.anchors[:1], first)
    assert not torch.equal(segmenter.filters[:1, :1], first)
    assert torch.equal(segmenter.anchors[1:], segmenter.filters[1:, :1])


def test_it_goes_on_from_a_state(clip, tmp_path):
    frames, masks = clip
    check_goes_on(segmenter, frames, {0: masks[0] * (masks[0] == 2), 2: masks[2]}, tmp_path)


@pytest.mark.parametrize(
    "box", [(0, 0, 20, 15), (100, 60, 50, 30), (70, 30, 1, 40), (0, 0, 150, 90)]
)
def test_the_mask_of_a_box_lies_in_it(clip, box):
    frame = clip[0][0]
    mask = segmenter().mask_from_box(frame, box)
    x, y, width, height = box
    assert mask.dtype == torch.uint8
    assert mask.any()
    assert mask.sum() == mask[y : y + height, x : x + width].sum()
    with pytest.raises(InputError, match="box"):
        segmenter().mask_from_box(frame, (140, 0, 20, 20))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("short_side", 8),
        ("learning_rate", 1.0),
        ("first_weight", 1.0),
        ("min_area", -1),
        ("box_factor", 0.5),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        LWLLiteOptions(**{name: value})


def test_the_size_of_a_frame_does_not_change_what_is_remembered():
    torch.manual_seed(0)
    model = TargetModel()
    features, labels = torch.randn(1, 3, 20, 20), torch.randn(1, 2, 20, 20)
    weights = torch.ones(1, 1, 20, 20)
    once = model.statistics(features, labels, weights)
    twice = model.statistics(*(torch.cat([x, x], dim=3) for x in (features, labels, weights)))
    # But for the patches at the seam.
    assert math.isclose(once.energy.sum(), twice.energy.sum(), rel_tol=1e-5)


def test_the_command_line_builds_it(tmp_path):
    path = tmp_path / "net.safetensors"
    save_lwl_lite(network(), path)
    parser = argparse.ArgumentParser()
    add_method_arguments(parser)
    line = f"--method lwl-lite --weights {path} --option min_area=7 --device cpu"
    tracker = build_segmenter(parser.parse_args(line.split()))
    assert isinstance(tracker, LWLLiteSegmenter)
    assert tracker.options.min_area == 7
    with pytest.raises(InputError, match="min_area"):
        build_segmenter(parser.parse_args([*line.split(), "--option", "min_area=-1"]))
    with pytest.raises(InputError, match="backbone"):
        build_segmenter(parser.parse_args([*line.split(), "--backbone", "small"]))
    fast = build_segmenter(parser.parse_args([*line.split(), "--speed", "fast"]))
    assert isinstance(fast, LWLLiteSegmenter)
    assert fast.options == replace(SPEEDS["fast"], min_area=7)
    with pytest.raises(InputError, match="speed: 'better' is unknown; there are fast, balanced"):
        build_segmenter(parser.parse_args([*line.split(), "--speed", "better"]))
    with pytest.raises(InputError, match="speed: 'fast'; ridge has no presets"):
        build_segmenter(parser.parse_args(["--method", "ridge", "--speed", "fast"]))


@pytest.mark.parametrize(
    ("size", "options", "seen"),
    [
        ((480, 854), LWLLiteOptions(), (480, 854)),
        ((720, 1280), LWLLiteOptions(), (480, 853)),
        ((240, 426), LWLLiteOptions(), (240, 426)),
        ((480, 854), SPEEDS["balanced"], (384, 683)),
        ((1920, 1080), SPEEDS["fast"], (569, 320)),
    ],
)
def test_settings_say_how_many_pixels_are_looked_at(size, options, seen):
    tracker = LWLLiteSegmenter(network(), options)
    with torch.no_grad():
        encoded = tracker.encode(torch.zeros(3, *size, dtype=torch.uint8))
    assert encoded.seen.images.shape[-2:] == seen
    assert encoded.size == size


def test_the_weights_that_ship_follow_objects():
    frames, masks = synthetic_clip(length=4, size=(240, 432), objects=2, seed=0)
    tracker = LWLLiteSegmenter(lwl_lite("default"))
    tracker.start(frames[0], masks[0])
    for t in range(1, 4):
        found = tracker.step(frames[t])
        for id_ in (1, 2):
            ours, true = found == id_, masks[t] == id_
            assert (ours & true).sum() / (ours | true).sum() > 0.8, (t, id_)


def test_objects_that_share_a_frame_are_as_those_alone(clip):
    frames, masks = clip
    both, alone = segmenter(), segmenter()
    both.start(frames[0], masks[0])
    alone.start(frames[0], masks[0] * (masks[0] == 2))
    # The rounding of a Cholesky solve, of the size of the largest filters.
    error = 1e-4 * float(alone.filters.abs().max())
    torch.testing.assert_close(both.filters[1:], alone.filters, rtol=0, atol=error)
    with torch.no_grad():
        together, single = (
            tracker.track(tracker.encode(frames[1])).logits for tracker in (both, alone)
        )
    torch.testing.assert_close(together[1:], single, rtol=1e-3, atol=1e-3)


def test_speed_is_measured_side_by_side(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "SIZE", (320, 854))
    monkeypatch.setattr(speed, "_FULL", 1)
    monkeypatch.setattr(speed, "METHODS", {"lite": lambda: LWLLiteSegmenter(network())})
    threads = torch.get_num_threads()
    speed.main(["--frames", "1", "--methods", "lite", "--output", str(tmp_path)])
    torch.set_num_threads(threads)
    assert "three, s" in capsys.readouterr().out
    written = json.loads((tmp_path / "speed.json").read_text())
    # Two sums of the filter's 108 weights squared, and what is small beside.
    assert 2 * 4 * 108**2 < 1e6 * written["one object"]["lite"]["kept"] < 3 * 4 * 108**2
