"""e-OSVOS's training: what a phase trains, divergence, exact resumption, and the command."""

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from urllib.error import URLError

import pytest
import torch
from davis_layout import write_davis
from safetensors.torch import load_file, save_file
from torch import nn
from torchrun import torchrun
from torchvision.ops import FrozenBatchNorm2d

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.configuration.arguments import read_fields
from innerloop_vos.data import DavisDataset, Sequence
from innerloop_vos.data.sampling import ClipSampler, MiniSequence
from innerloop_vos.eosvos import EOSVOSOptions, eosvos_mobilenet_v2, load_eosvos, save_eosvos
from innerloop_vos.eosvos.augmentation import augmented
from innerloop_vos.eosvos.builders import load_backbone
from innerloop_vos.eosvos.finetuning import (
    Batch,
    encode_batch,
    fine_tune,
    initial_rates,
    training_loss,
)
from innerloop_vos.eosvos.phases import PHASES, EOSVOSTrainingSettings
from innerloop_vos.eosvos.tasks import TaskSampler
from innerloop_vos.eosvos.train_command import (
    NetworkOptions,
    _network,
    add_eosvos_arguments,
    train_eosvos_from_arguments,
)
from innerloop_vos.eosvos.training import WEIGHTS, EOSVOSTraining
from innerloop_vos.training.loop import CHECKPOINT, run
from innerloop_vos.training.validation import Validation

CPU = torch.device("cpu")
SIZES = {
    "channels": 16,
    "image_size": (48, 64),
    "anchors": (8, 16, 32, 48, 64),
    "box_features": 16,
    "mask_features": 8,
    "mask_pooling": 7,
    "sampled_anchors": 32,
    "sampled_boxes": 16,
    "proposals": (50, 50),
}
TINY = EOSVOSTrainingSettings(
    iterations=4, batch_size=2, inner_steps=2, init_rate=1e-3, rates_rate=1e-4, held_out_tasks=2
)


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("davis"), ["cat", "cow", "dog"])


def network(**sizes):
    torch.manual_seed(1)
    return eosvos_mobilenet_v2(**SIZES, **sizes)


def training(davis, settings=TINY, held_out=(), **sizes):
    clips = DavisDataset(davis, split="train")
    net = network(**sizes)
    return EOSVOSTraining(
        net,
        initial_rates(net),
        ClipSampler(clips, 2 if settings.inner_steps else 1),
        Validation([clips[name] for name in held_out], 3),
        settings,
    )


@pytest.mark.parametrize(
    ("phase", "rates_change"), [("parent", False), ("meta", True), ("davis", False)]
)
def test_a_phase_changes_what_it_should_and_no_other(davis, phase, rates_change):
    # Without enough of a rate, float32 would round small changes away.
    settings = replace(PHASES[phase], batch_size=2, init_rate=0.01)
    task = training(davis, settings, frozen_layers=4)
    modules = {"network": task.network, "rates": task.inner_rates}
    before = {k: {n: p.clone() for n, p in m.named_parameters()} for k, m in modules.items()}
    for iteration in range(2):
        figures = task.step(iteration)
        assert figures["train/loss"] > 0
        assert figures["left out/share"] == 0
    changed = {
        kind: {n for n, p in module.named_parameters() if not p.equal(before[kind][n])}
        for kind, module in modules.items()
    }
    frozen = {name for name, p in task.network.named_parameters() if not p.requires_grad}
    assert {name.split(".")[2] for name in frozen} == {"0", "1", "2", "3"}
    assert not changed["network"] & frozen
    parts = ("backbone.body.17.", "backbone.fpn.", "rpn.", "roi_heads.")
    assert all(any(name.startswith(part) for name in changed["network"]) for part in parts)
    assert bool(changed["rates"]) == rates_change
    assert all(bool((rate >= 0).all()) for rate in task.inner_rates.parameters())


def test_the_gradient_of_a_step_is_the_mean_over_its_tasks(davis):
    task = training(davis, replace(TINY, inner_steps=3))
    network, rates = copy.deepcopy((task.network, task.inner_rates))
    drawn = [task.tasks.sample() for _ in range(2)]
    remaining = iter(drawn)
    task.tasks.sample = lambda: next(remaining)
    # The anchors and boxes of the losses are drawn: the same numbers in the same order.
    torch.manual_seed(5)
    task.step(0)
    torch.manual_seed(5)
    for batch in drawn:
        train, test = (Batch(*(part[at] for part in batch)) for at in (slice(1), slice(1, 2)))
        encoded = encode_batch(network, train, 0)  # once, with its draw of a size, as in a step
        tuned = fine_tune(network, rates(), lambda encoded=encoded: encoded, 3)
        (training_loss(tuned, test) / 2).backward()
    for ours, theirs in ((task.network, network), (task.inner_rates, rates)):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)


def test_fine_tuned_networks_learn_over_training(davis):
    # The first steps of RAdam are as long as the gradient is.
    settings = replace(TINY, inner_steps=1, init_rate=5e-3, batch_size=1, clip=5.0, seed=1)
    task = training(davis, settings)
    drawn = task.tasks.sample()
    task.tasks.sample = lambda: drawn
    losses = [task.step(iteration)["train/loss"] for iteration in range(30)]
    # Which boxes a loss is of is drawn in each step.
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_inner_steps_learn_from_augmented_copies(davis):
    settings = replace(TINY, inner_steps=3, copies=2)
    task = training(davis, settings)
    options = EOSVOSOptions(copies=2, online_interval=None)
    network, rates = copy.deepcopy((task.network, task.inner_rates))
    drawn = task.tasks.sample()
    torch.manual_seed(5)
    found = task._task_loss(drawn)
    torch.manual_seed(5)
    one = drawn.images[0], drawn.masks[0]

    def copies():
        return Batch(*map(list, zip(*(augmented(*one, options) for _ in range(2)), strict=True)))

    tuned = fine_tune(network, rates(), copies, 3)
    test = Batch(*(part[1:] for part in drawn))
    torch.testing.assert_close(found, training_loss(tuned, test))


@pytest.mark.parametrize("inner_steps", [0, 2])
def test_the_held_out_loss_is_of_the_same_tasks_each_time(davis, inner_steps):
    task = training(davis, replace(TINY, inner_steps=inner_steps), held_out=["dog"])
    state = torch.get_rng_state()
    loss = task.evaluate()["held out/loss"]
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(1234)
    assert task.evaluate()["held out/loss"] == loss
    with torch.no_grad():
        for parameter in task.network.roi_heads.mask_predictor.parameters():
            parameter.add_(1)
    assert task.evaluate()["held out/loss"] != loss


def test_held_out_clips_too_short_for_tasks_are_segmented(davis):
    task = training(davis, held_out=["dog"])
    clip = task.validation.clips[0]
    short = Sequence("dog", clip.frames, [*clip.masks[:3], *[None] * (len(clip.frames) - 3)])
    task.held_out.sampler.sampler = ClipSampler([short], 2)
    figures = task.evaluate()
    assert "held out/J" in figures
    assert "held out/loss" not in figures


def test_a_task_that_diverges_is_left_out(davis):
    task = training(davis)
    good = task.tasks.sample()
    bad = Batch([image * float("nan") for image in good.images], good.masks)
    drawn = iter([good, bad])
    task.tasks.sample = lambda: next(drawn)
    figures = task.step(0)
    assert figures["left out/share"] == 0.5
    assert all(bool(p.isfinite().all()) for p in task.network.parameters())
    task.tasks.sample = lambda: bad
    with pytest.raises(InputError, match="all 2 tasks of step 2 diverged; try lower learning"):
        task.step(1)


def test_a_gradient_that_is_not_finite_is_left_out(davis):
    task = training(davis)
    before = [p.clone() for p in task.network.parameters()]
    bias = task.network.roi_heads.box_predictor.cls_score.bias
    bias.register_hook(lambda gradient: gradient * float("nan"))
    assert task.step(0)["left out/share"] == 1
    assert all(p.equal(b) for p, b in zip(task.network.parameters(), before, strict=True))


def test_frames_of_a_task_share_their_colours_and_mirroring(davis):
    sampler = ClipSampler(DavisDataset(davis, split="train"), 2)
    one = sampler.sample()
    one.frames[1], one.masks[1] = one.frames[0], one.masks[0]
    sampler.sample = lambda: one
    still = replace(TINY, rotation=0, scale=(1, 1))
    drawn = [TaskSampler(sampler, (48, 64), still).sample() for _ in range(8)]
    for images, masks in drawn:
        assert images[0].shape == (3, 48, 60)
        assert images[0].equal(images[1])
        assert masks[0].equal(masks[1])
    assert not drawn[0].images[0].equal(drawn[1].images[0])
    assert len({batch.masks[0].nonzero().sum().item() for batch in drawn}) == 2
    turned = TaskSampler(sampler, (48, 64), TINY).sample()
    assert not turned.masks[0].equal(turned.masks[1])


@pytest.mark.parametrize("in_order", [True, False])
def test_a_task_is_learned_from_the_earlier_frame_or_from_any(in_order):
    torch.manual_seed(0)
    mask = torch.zeros(48, 64, dtype=torch.bool)
    mask[10:40, 10:50] = True
    frames = [torch.full((3, 48, 64), 100 * t, dtype=torch.uint8) for t in range(2)]
    sampler = argparse.Namespace(sample=lambda: MiniSequence(frames, [mask, mask]))
    settings = replace(TINY, in_order=in_order, jitter=0.0, rotation=0, scale=(1, 1))
    tasks = TaskSampler(sampler, (48, 64), settings)
    firsts = [tasks.sample().images[0].mean() > 0.2 for _ in range(20)]
    assert any(firsts) != in_order
    assert not all(firsts)


def test_an_interrupted_training_resumes_to_the_same_weights(davis, tmp_path):
    settings = replace(TINY, inner_steps=1, batch_size=1, paste=0.5, schedule="cosine")

    class Killed(EOSVOSTraining):
        def step(self, iteration):
            if iteration == 3:
                raise KeyboardInterrupt
            return super().step(iteration)

    run(training(davis, settings), tmp_path / "whole", 4, every=2)
    cut = training(davis, settings)
    cut.__class__ = Killed
    with pytest.raises(KeyboardInterrupt):
        run(cut, tmp_path / "parts", 4, every=2)
    run(training(davis, settings), tmp_path / "parts", 4, every=2, resume=True)
    whole, parts = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    other = training(davis, replace(settings, inner_steps=2))
    with pytest.raises(InputError, match="had other settings: inner_steps 1"):
        run(other, tmp_path / "parts", 6, every=2, resume=True)


def options(davis, out, more="", phase="parent"):
    return (
        f"--phase {phase} --davis {davis} --out {out} --iterations 2 --batch-size 1 "
        f"--held-out dog --held-out-frames 3 --held-out-steps 1 --held-out-tasks 1 {more}"
    ).split()


def parse(words):
    parser = argparse.ArgumentParser()
    add_eosvos_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def start(tmp_path):
    """A file of a tiny network to start from."""
    save_eosvos(network(), initial_rates(network()), tmp_path / "start.safetensors")
    return tmp_path / "start.safetensors"


def test_the_phases_follow_one_another_on_the_command_line(davis, tmp_path, start):
    before = start
    rates = []
    for phase in PHASES:
        words = options(davis, tmp_path / phase, f"--init {before}", phase)
        if phase == "parent":
            words += ["--per", "model", "--rate", "0.002"]
        assert train_eosvos_from_arguments(parse(words), CPU)
        before = tmp_path / phase / WEIGHTS
        rates.append(load_eosvos(before)[1])
    names = {path.name for path in (tmp_path / "meta").iterdir()}
    assert names == {CHECKPOINT, "curve.json", "curve.png", WEIGHTS}
    assert [each.per for each in rates] == ["model", "neuron", "neuron"]
    assert rates[0]().item() == pytest.approx(0.002)
    assert all(rates[1]()[n].equal(rate) for n, rate in rates[2]().items())
    last = json.loads((tmp_path / "davis" / "curve.json").read_text())[-1]
    assert {"held out/J", "held out/F", "J/dog", "rates/mean", "frozen/share"} <= last.keys()


def test_a_backbone_is_taken_from_a_classification_network(tmp_path):
    body = network().backbone.body
    state = {f"features.{name}": value + 1 for name, value in body.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    net = network()
    load_backbone(net, tmp_path / "weights.safetensors")
    for name, value in net.backbone.body.state_dict().items():
        assert value.equal(state[f"features.{name}"])
    state.pop("features.3.conv.0.0.weight")
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"lacks 1 tensors of the backbone.*3\.conv\.0\.0\.weight"):
        load_backbone(net, tmp_path / "weights.safetensors")


def test_layers_stay_frozen_when_a_network_is_loaded_again(tmp_path):
    net = network(frozen_layers=2)
    save_eosvos(net, il.LearningRates(net, per="model"), tmp_path / "net.safetensors")
    again, _ = load_eosvos(tmp_path / "net.safetensors")
    frozen = [name for name, p in again.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(name.startswith(("backbone.body.0.", "backbone.body.1.")) for name in frozen)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--batch-size 0", "batch_size should be positive, got 0"),
        ("--inner-steps -1", "inner_steps should be 0 or more, got -1"),
        ("--init-rate nan", "init_rate should be positive, got nan"),
        ("--rate 0", r"rate should be positive, got 0\.0"),
        ("--paste 2", r"paste should be in 0\.\.1, got 2"),
        ("--per layer", "per should be one of model, tensor, neuron, parameter, got layer"),
        ("--schedule step", "schedule should be one of constant, cosine, got step"),
        ("--scale 1.5,1.2", "scale should be two factors, the smaller first"),
        ("--held-out cow,horse", "--held-out: horse not among the sequences"),
        ("--held-out cat,cow,dog", "no sequence is left to train on"),
        ("--held-out-frames 2", "--held-out-frames should be at least 3, got 2"),
        ("--every 0", "--every should be at least 1, got 0"),
        ("--phase davis", "--init: phase davis needs the weights of phase meta"),
        ("--davis nowhere", "nowhere is not laid out as DAVIS"),
        ("--init nowhere.safetensors", "nowhere.safetensors is not a file"),
        ("--network mobilenet_v2 --backbone-weights nowhere.pth", "nowhere.pth is not a file"),
    ],
)
def test_bad_settings_are_named(davis, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        train_eosvos_from_arguments(parse(options(davis, tmp_path / "out", more)), CPU)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("network", "norm", "layer"),
    [
        ("resnet50", "", nn.GroupNorm),
        ("resnet50", "--norm frozen", FrozenBatchNorm2d),
        ("resnet50", "--norm group", nn.GroupNorm),
        ("mobilenet_v2", "", FrozenBatchNorm2d),
        ("mobilenet_v2", "--norm group", nn.GroupNorm),
    ],
)
def test_the_norm_is_what_it_is_said_to_be(davis, tmp_path, monkeypatch, network, norm, layer):
    def weights(self, **options):
        return {}

    monkeypatch.setattr("torchvision.models.WeightsEnum.get_state_dict", weights)
    words = options(davis, tmp_path / "out", f"--network {network} {norm}")
    made = _network(read_fields(parse(words), NetworkOptions))
    kinds = {type(module) for module in made.modules()} & {nn.GroupNorm, FrozenBatchNorm2d}
    assert kinds == {layer}


@pytest.mark.parametrize(
    ("network", "file"),
    [("resnet50", "maskrcnn_resnet50_fpn_coco-"), ("mobilenet_v2", "mobilenet_v2-")],
)
def test_a_file_that_cannot_be_downloaded_is_named(davis, tmp_path, monkeypatch, network, file):
    def offline(self, **options):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models.WeightsEnum.get_state_dict", offline)
    arguments = parse(options(davis, tmp_path / "out", f"--network {network}"))
    with pytest.raises(InputError, match=f"https://.*/{file}.*no network.*--backbone-weights"):
        train_eosvos_from_arguments(arguments, CPU)
    assert not (tmp_path / "out").exists()


def test_there_must_be_data(tmp_path):
    words = f"--phase parent --out {tmp_path / 'out'}".split()
    with pytest.raises(InputError, match="nothing to train on: give --davis"):
        train_eosvos_from_arguments(parse(words), CPU)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(davis, tmp_path, start):
    command = [sys.executable, "-m", "innerloop_vos.cli", "train", "e-osvos", "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def launch(name, more=""):
        more = f"--init {start} --iterations 4 --every 1 --held-out= {more}"
        words = options(davis, tmp_path / name, more, "meta")
        return subprocess.Popen([*command, *words], env=environment, stderr=subprocess.PIPE)

    assert launch("whole").wait() == 0
    more = ""
    for _ in range(2):
        process = launch("parts", more)
        checkpoint, seen = tmp_path / "parts" / CHECKPOINT, None
        if checkpoint.exists():
            seen = checkpoint.stat().st_mtime_ns
        while process.poll() is None:
            time.sleep(0.01)
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen:
                process.kill()
                process.wait()
        more = "--resume"
    assert launch("parts", "--resume").wait() == 0
    whole, parts = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_meta_train_together(davis, tmp_path, start):
    words = options(davis, tmp_path / "out", f"--init {start} --every 1 --device cpu", "meta")
    torchrun("-m", "innerloop_vos.cli", "train", "e-osvos", *words)
    assert len(torch.load(tmp_path / "out" / CHECKPOINT)["generator"]) == 2
    curve = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert [each["iteration"] for each in curve if "held out/J" in each] == [1, 2]
    before, after = (load_file(path) for path in (start, tmp_path / "out" / WEIGHTS))
    changed = [name for name in before if not before[name].equal(after[name])]
    assert any(name.startswith("model.") for name in changed)
    assert any(name.startswith("rates.") for name in changed)
