"""A-GAME: its appearance model, its networks, how it tracks and how it is trained."""

import argparse
from dataclasses import replace

import pytest
import torch
from continuing import check_goes_on
from davis_layout import write_davis
from safetensors.torch import load_file
from test_lwl_lite_training import _Frames

from innerloop.errors import InputError
from innerloop_vos import cli
from innerloop_vos.agame import AGAMEOptions, AGAMESegmenter, agame, save_agame
from innerloop_vos.agame.builders import FAMILY
from innerloop_vos.agame.model.appearance import AppearanceModel
from innerloop_vos.agame.training.end_to_end import AGAMETraining
from innerloop_vos.agame.training.settings import AGAMESettings
from innerloop_vos.data import Sequence, synthetic_clip
from innerloop_vos.data.tracks import TrackSampler
from innerloop_vos.methods.registry import add_method_arguments, build_segmenter
from innerloop_vos.training.loop import run
from innerloop_vos.training.validation import Validation

TINY = AGAMESettings(iterations=4, batch_size=2, height=64, width=96, frames=3, warmup=1)
VARIANTS = [{}, {"components": 2}, {"components": 0}, {"propagation": False}]


def network(seed=0, **sizes):
    torch.manual_seed(seed)
    return agame(**({"features": 8} | sizes))


@pytest.fixture(scope="module")
def clip():
    return synthetic_clip(length=5, size=(90, 150), objects=2, seed=1)


def dense(alpha, rows, floor):
    """Mean and variance of one component, in loops."""
    total = sum(float(a) for a in alpha)
    mean = sum(float(a) * x for a, x in zip(alpha, rows, strict=True)) / total
    square = sum(float(a) * ((x - mean) ** 2 + floor) for a, x in zip(alpha, rows, strict=True))
    return mean, square / total


def density(rows, mean, variance):
    return (-0.5 * (rows - mean) ** 2 / variance).exp().prod(-1) / variance.sqrt().prod(-1)


def test_the_appearance_model_is_that_of_the_paper():
    torch.manual_seed(0)
    model = AppearanceModel(3).double()
    model.log_regularization.data.normal_()
    floors = model.log_regularization.detach().exp()
    frames = [torch.randn(1, 3, 4, 5, dtype=torch.float64) for _ in range(2)]
    masks = [(torch.rand(1, 4, 5) > 0.6).double(), torch.rand(1, 4, 5, dtype=torch.float64)]
    with torch.no_grad():
        found = model.update(model.start(frames[0], masks[0]), frames[1], masks[1], 0.3)
        scores = model.scores(found, frames[1])
    expected = []
    for frame, mask in zip(frames, masks, strict=True):
        rows, y = frame[0].flatten(1).mT, mask.flatten()
        alphas = [1 - y, y]

        def learn(alpha, k, rows=rows):
            mean, variance = dense(alpha, rows, floors[k])
            if len(expected) > k:
                mean = 0.7 * expected[k][0] + 0.3 * mean
                variance = 0.7 * expected[k][1] + 0.3 * variance
                expected[k] = mean, variance
            else:
                expected.append((mean, variance))

        learn(alphas[0], 0)
        learn(alphas[1], 1)
        likely = torch.stack([density(rows, *expected[k]) for k in range(2)])
        posterior = likely / likely.sum(0)
        learn((alphas[0] - posterior[0]).clamp(min=0), 2)
        learn((alphas[1] - posterior[1]).clamp(min=0), 3)
    for k, (mean, variance) in enumerate(expected):
        torch.testing.assert_close(found["mean"][0, k], mean)
        torch.testing.assert_close(found["log_variance"][0, k].exp(), variance)
    logs = torch.stack([density(rows, *each).log() for each in expected]) / 3**0.5
    torch.testing.assert_close(scores[0].flatten(1), logs.log_softmax(0))


def test_a_class_that_is_not_there_leaves_its_component_as_it_was():
    torch.manual_seed(0)
    model, features = AppearanceModel(3), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        before = model.start(features, (torch.rand(2, 4, 5) > 0.5).float())
        after = model.update(before, features, torch.zeros(2, 4, 5), 0.5)
    torch.testing.assert_close(after["mean"][:, 1], before["mean"][:, 1])
    assert not torch.allclose(after["mean"][:, 0], before["mean"][:, 0])
    nothing = model.start(features, torch.zeros(2, 4, 5))
    assert all(part.isfinite().all() for part in nothing.values())


def test_gradients_pass_the_appearance_model():
    torch.manual_seed(0)
    model = AppearanceModel(3).double()
    first, later = (torch.randn(1, 3, 2, 4, dtype=torch.float64) for _ in range(2))
    masks = torch.rand(2, 1, 2, 4, dtype=torch.float64)

    def scores(first, later, before, after, floors):
        model.log_regularization = torch.nn.Parameter(floors.detach())
        del model._parameters["log_regularization"]
        model.log_regularization = floors
        found = model.update(model.start(first, before), later, after, 0.3)
        return model.scores(found, later)

    inputs = [first, later, *masks, 0.1 * torch.randn(4, 3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(scores, [tensor.requires_grad_() for tensor in inputs])


def segmenter(sizes=None, **options):
    return AGAMESegmenter(network(**(sizes or {})), AGAMEOptions(**options))


@pytest.mark.parametrize("sizes", VARIANTS)
@pytest.mark.parametrize(
    "options", [{}, {"short_side": 64, "half": True}, {"learning_rate": 0.0, "min_area": 0}]
)
def test_every_variant_segments_a_clip(clip, sizes, options):
    frames, masks = clip
    tracker = segmenter(sizes, **options)
    tracker.start(frames[0], masks[0] * (masks[0] == 2))
    for t in range(1, 5):
        labels = tracker.step(frames[t], masks[t] if t == 2 else None)
        assert labels.shape == (90, 150)
        torch.testing.assert_close(tracker.probabilities.sum(0), torch.ones(90, 150))
    assert tracker.ids == [2, 1]


def test_what_is_switched_off_is_not_used(clip):
    frames, masks = clip
    still, moving = segmenter(learning_rate=0.0), segmenter(learning_rate=0.1, min_area=0)
    for tracker in (still, moving):
        tracker.start(frames[0], masks[0])
    before = still.gaussians["mean"].clone()
    for tracker in (still, moving):
        tracker.step(frames[1])
    assert torch.equal(still.gaussians["mean"], before)
    assert not torch.equal(moving.gaussians["mean"], before)

    def logits(sizes, mask):
        net = network(**sizes)
        with torch.no_grad():
            seen = net.see(frames[:1].float() / 255)
            gaussians = net.start(seen, (masks[:1] == 1).float())
            return net.segment(gaussians, seen, mask)[1]

    far = torch.zeros(1, 90, 150)
    far[:, :20, :20] = 1
    unmoved = logits({"propagation": False}, far)
    assert torch.equal(unmoved, logits({"propagation": False}, 1 - far))
    assert not torch.equal(logits({}, far), logits({}, 1 - far))
    assert network(components=0).appearance is None


def test_objects_that_share_a_frame_are_as_those_alone(clip):
    frames, masks = clip
    both, alone = segmenter(), segmenter()
    both.start(frames[0], masks[0])
    alone.start(frames[0], masks[0] * (masks[0] == 2))
    with torch.no_grad():
        together, single = (
            tracker.track(tracker.encode(frames[1])).logits for tracker in (both, alone)
        )
    torch.testing.assert_close(together[1:], single, rtol=1e-3, atol=1e-3)


def test_it_goes_on_from_a_state(clip, tmp_path):
    frames, masks = clip
    check_goes_on(segmenter, frames, {0: masks[0] * (masks[0] == 2), 2: masks[2]}, tmp_path)


@pytest.mark.parametrize("box", [(0, 0, 20, 15), (70, 30, 1, 40), (0, 0, 150, 90)])
@pytest.mark.parametrize("sizes", VARIANTS)
def test_the_mask_of_a_box_lies_in_it(clip, box, sizes):
    mask = segmenter(sizes).mask_from_box(clip[0][0], box)
    x, y, width, height = box
    assert mask.dtype == torch.uint8
    assert mask.any()
    assert mask.sum() == mask[y : y + height, x : x + width].sum()


@pytest.mark.parametrize(
    ("name", "value"), [("short_side", 8), ("learning_rate", 1.1), ("min_area", -1)]
)
def test_options_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        AGAMEOptions(**{name: value})


def test_the_command_line_builds_it(tmp_path):
    path = tmp_path / "net.safetensors"
    save_agame(network(), path)
    parser = argparse.ArgumentParser()
    add_method_arguments(parser)
    line = f"--method a-game --weights {path} --option min_area=7 --device cpu"
    tracker = build_segmenter(parser.parse_args(line.split()))
    assert isinstance(tracker, AGAMESegmenter)
    assert tracker.options.min_area == 7
    for more in ("--backbone small", "--speed fast", "--solver exact", "--option min_area=-1"):
        with pytest.raises(InputError, match=more.partition(" ")[0][2:]):
            build_segmenter(parser.parse_args(f"{line} {more}".split()))


@pytest.fixture(scope="module")
def clips():
    made = [synthetic_clip(10, (90, 120), objects=2, seed=seed) for seed in range(2)]
    return [Sequence(f"clip{i}", _Frames(f), list(m)) for i, (f, m) in enumerate(made)]


def training(clips, settings=TINY, held_out=(), **sizes):
    sampler = TrackSampler(clips, settings.frames, settings.fastest)
    net = network(**sizes)
    return AGAMETraining(net, sampler, Validation(held_out, 3), settings, fresh=True)


LAYERS = {"fusion", "upsampling", "propagation"}


@pytest.mark.parametrize(
    ("more", "sizes", "trained"),
    [
        ({}, {}, {*LAYERS, "projection", "appearance"}),
        ({"backbone_rate": 1e-4}, {}, {*LAYERS, "projection", "appearance", "backbone"}),
        ({"projection_rate": 0.0, "appearance_rate": 0.0}, {}, LAYERS),
        ({}, {"components": 0}, {*LAYERS, "projection"}),
        ({}, {"propagation": False}, {"fusion", "upsampling", "projection", "appearance"}),
    ],
)
def test_the_settings_say_what_is_trained(clips, more, sizes, trained):
    task = training(clips, replace(TINY, **more), **sizes)
    task.step(0)  # the projection starts here
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    for iteration in range(1, 4):
        task.step(iteration)
    after = task.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == trained


def test_the_gradient_of_a_frame_goes_to_those_before(clips):
    task = training(clips)
    images, masks = task.windows.batch(1)
    masks = masks[:, 0].requires_grad_()
    logits, _ = task.network(images, masks)
    (gradient,) = torch.autograd.grad(logits[:, -1].sum(), masks)
    assert gradient.abs().sum() > 0


def test_errors_in_a_mask_are_seen_from_the_next_frame_on(clips):
    task = training(clips)
    images, masks = task.windows.batch(1)
    task.network.eval()
    with torch.no_grad():
        whole, _ = task.network(images, masks[:, 0])
        lost, _ = task.network(images, masks[:, 0], disturb=torch.zeros_like)
    assert torch.equal(whole[:, 0], lost[:, 0])
    assert not torch.equal(whole[:, 1], lost[:, 1])


def test_a_resumed_training_ends_with_the_same_weights(clips, tmp_path):
    run(training(clips, held_out=clips[:1]), tmp_path / "whole", 4, every=2)
    run(training(clips, held_out=clips[:1]), tmp_path / "parts", 2, every=2)
    assert run(training(clips, held_out=clips[:1]), tmp_path / "parts", 4, every=2, resume=True)
    whole, parts = (load_file(tmp_path / name / FAMILY.file) for name in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_the_command_trains_from_scratch_and_from_its_own_weights(tmp_path):
    davis = write_davis(tmp_path / "davis", ["cat", "cow"])
    line = (
        f"train a-game --davis {davis} --held-out cow --held-out-frames 3 --iterations 1 "
        "--batch-size 1 --height 64 --width 96 --frames 2 --features 8 --components 2 --warmup 1"
    )
    assert cli.main([*line.split(), "--out", str(tmp_path / "first")]) == 0
    weights = tmp_path / "first" / FAMILY.file
    sizes = {"features": 8, "components": 2, "propagation": True}
    assert agame(weights).sizes == sizes
    more = ["--out", str(tmp_path / "second"), "--init", str(weights)]
    assert cli.main([*line.split(), *more]) == 0
    assert agame(tmp_path / "second" / FAMILY.file).sizes == sizes
    for wrong in ("--components=3", "--features=0", "--components=0 --no-propagation"):
        more = [*wrong.split(), "--out", str(tmp_path / "third")]
        assert cli.main([*line.split(), *more]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", 1),
        ("rate", 0.0),
        ("paste", 2.0),
        ("errors", 2.0),
        ("learning_rate", 1.5),
        ("coarse", -1.0),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=name):
        replace(TINY, **{name: value})
