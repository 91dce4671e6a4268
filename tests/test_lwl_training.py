"""LWL's training: what a stage trains, exact resumption, guards, and the command."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from davis_layout import write_davis
from lwl_goldens import load, seeded_state
from lwl_tiny import TINY_SIZES, TinyBackbone, tiny_lwl
from safetensors.torch import load_file, save_file
from shared import needs_shared
from torchrun import torchrun

import innerloop as il
from innerloop._states import read_state
from innerloop.errors import InputError
from innerloop_vos.backbones.efficientnet_weights import released_weights
from innerloop_vos.cli import main
from innerloop_vos.data import DavisDataset, Sequence, synthetic_clip
from innerloop_vos.data.sampling import ClipSampler
from innerloop_vos.lwl import load_lwl, lwl_resnet50, save_lwl
from innerloop_vos.lwl.training.command import add_lwl_arguments, train_lwl_from_arguments
from innerloop_vos.lwl.training.end_to_end import WEIGHTS, LWLTraining
from innerloop_vos.lwl.training.losses import LOSSES
from innerloop_vos.lwl.training.stages import STAGES, LWLTrainingSettings, parameter_groups
from innerloop_vos.training.loop import run
from innerloop_vos.training.losses import lovasz_sigmoid
from innerloop_vos.training.validation import Validation

CPU = torch.device("cpu")
TINY = LWLTrainingSettings(
    iterations=4, batch_size=2, height=48, width=64, test_frames=2, decoder_rate=1e-3, decay_at=(3,)
)


@pytest.fixture(scope="module")
def clips():
    made = [synthetic_clip(10, (64, 96), objects=2, seed=seed) for seed in range(2)]
    return [Sequence(f"clip{i}", _Frames(f), list(m)) for i, (f, m) in enumerate(made)]


class _Frames(list):
    @property
    def names(self):
        return [f"{index:05d}" for index in range(len(self))]


def training(clips, settings=TINY, held_out=(), **sizes):
    sampler = ClipSampler(clips, 1 + settings.test_frames, replacement=settings.replacement)
    return LWLTraining(tiny_lwl(**sizes), sampler, Validation(held_out, 3), settings)


@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        ("1", {"target_model", "decoder", "label_encoder"}),
        ("2", {"target_model", "decoder", "label_encoder", "feature_extractor"}),
        ("box", {"box_label_encoder"}),
    ],
)
def test_a_stage_changes_its_parts_and_no_other(clips, stage, trained):
    settings = replace(STAGES[stage], batch_size=2, height=48, width=64)
    task = training(clips, settings, box=stage == "box")
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    for iteration in range(2):
        task.step(iteration)
    after = task.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == trained
    first = {f"feature_extractor.{part}" for part in ("conv1", "bn1", "layer1")}
    assert not any(name.startswith(tuple(first)) for name in changed)
    for name in changed:
        assert "running" not in name


def test_the_rates_of_the_stages_are_the_released_ones():
    groups = parameter_groups(lwl_resnet50(**TINY_SIZES), STAGES["1"])
    assert [group["lr"] for group in groups] == [1e-4, 2e-5, 1e-4, 2e-4]
    net = lwl_resnet50(**TINY_SIZES)
    groups = parameter_groups(net, STAGES["2"])
    assert [group["lr"] for group in groups] == [2e-5] * 5
    frozen = {n.split(".")[1] for n, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    with pytest.raises(InputError, match=r"box_encoder_rate is 0\.001, but the network has no"):
        parameter_groups(lwl_resnet50(**TINY_SIZES), STAGES["box"])


def test_rates_fall_to_a_fifth(clips):
    task = training(clips)
    rates = []
    for iteration in (0, 2, 3):
        task.step(iteration)
        rates.append(task.optimizer.param_groups[2]["lr"])
    assert rates == pytest.approx([1e-3, 1e-3, 2e-4])
    parts = {"regularization": 2e-5, "projection": 4e-6, "decoder": 2e-4, "label_encoder": 4e-5}
    assert task.rates() == pytest.approx({f"rate/{part}": rate for part, rate in parts.items()})


def test_the_network_learns(clips):
    torch.manual_seed(0)
    rates = {"decoder_rate": 1e-3, "label_encoder_rate": 1e-3, "projection_rate": 1e-3}
    fast = {"batch_size": 1, "test_frames": 1, "init_steps": 3, "update_steps": 0}
    task = training(clips, replace(TINY, decay_at=(), **rates, **fast))
    batch = task.crops.batch(1)
    task.crops.batch = lambda count: batch
    # The Lovász loss takes a hundred steps to leave its plateau at 0.5.
    losses = [task.step(iteration)["train/loss"] for iteration in range(200)]
    assert losses[-1] < 0.6 * losses[0]


def test_updates_learn_from_predicted_masks_without_gradient_through_them():
    torch.manual_seed(0)
    net = tiny_lwl().train()
    images, masks = torch.rand(1, 3, 3, 48, 64), torch.zeros(1, 1, 48, 64)
    masks[..., 10:30, 20:40] = 1
    plain = net(images[:, :1], masks, images[:, 1:])
    updated = net(images[:, :1], masks, images[:, 1:], update_steps=2)
    assert torch.equal(plain[:, 0], updated[:, 0])
    assert not torch.equal(plain[:, 1], updated[:, 1])
    # By hand, with the mask of the first test frame as a second one to learn from.
    levels, features = net.extract(images[0])
    labels, weights = net.label_encoder(torch.stack([masks[0, 0], plain[0, 0].detach().sigmoid()]))
    first = net.target_model.fit(features[None, :1], labels[None, :1], weights[None, :1], steps=5)
    second = net.target_model.fit(
        features[None, :2], labels[None], weights[None], first, steps=2, adjoint=il.Unroll()
    )
    scores = net.target_model.score(second, features[None, 2:])[0]
    by_hand = net.decoder(scores, {n: level[2:] for n, level in levels.items()}, (48, 64))
    torch.testing.assert_close(by_hand, updated[:, 1], rtol=1e-4, atol=1e-5)
    parameters = [p for p in net.decoder.parameters() if p.requires_grad]
    gradients = [
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for loss in (updated[0, 1].sum(), by_hand.sum())
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@needs_shared
def test_the_training_loss_golden():
    golden = load("net.npz")
    network = lwl_resnet50()
    network.load_state_dict(seeded_state())
    frames = [golden[f"seq.{part}"].transpose(0, 1) for part in ("tr", "te")]
    # The reference feeds the backbone what is stored, without normalising it.
    network.feature_extractor.forward = network.feature_extractor.extract
    logits = network(frames[0], golden["seq.train_masks"].transpose(0, 1), frames[1])
    loss = 100 * lovasz_sigmoid(logits, golden["seq.test_masks"].transpose(0, 1))
    assert loss.item() == pytest.approx(golden["seq.loss"].item(), abs=2e-3)


@pytest.mark.parametrize("box", [False, True])
def test_the_loss_of_frames_is_the_mean_of_theirs(clips, box):
    base = replace(STAGES["box"], height=48, width=64) if box else TINY
    names = ("joint", "frames")
    joint, frames = (training(clips, replace(base, loss=name), box=box) for name in names)
    images, masks = joint.crops.batch(2)
    alone = [frames._loss(images[i : i + 1], masks[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(frames._loss(images, masks), torch.stack(alone).mean())
    assert joint._loss(images, masks) != frames._loss(images, masks)
    # Of one frame, both are the same.
    images, masks = images[:1, :2], masks[:1, :2]
    torch.testing.assert_close(joint._loss(images, masks), frames._loss(images, masks))


def test_losses_by_hand(clips, monkeypatch):
    # An object of one pixel that is missed, and one of four that is found.
    masks = torch.zeros(1, 3, 2, 2)
    masks[0, 1, 0, 0], masks[0, 2] = 1, 1
    logits = torch.full((1, 2, 2, 2), -50.0)
    logits[0, 1] = 50
    found = {}
    for name in LOSSES:
        task = training(clips, replace(TINY, loss=name, loss_weight=1.0))
        monkeypatch.setattr(task.network, "forward", lambda *args, **kwargs: logits)
        found[name] = task._loss(torch.zeros(1, 3, 3, 2, 2), masks).item()
    # Jaccard distances: 1 of 5 pixels of both frames; 1 in the first frame, 0 in the second.
    # Cross-entropy: 50 in 1 of 8 pixels.
    assert found == pytest.approx({"joint": 1 / 5, "frames": 1 / 2, "cross-entropy": 50 / 8})


def test_processes_share_their_gradients_before_the_optimizer(clips, monkeypatch):
    task = training(clips)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}

    def cancel(parameters):
        for parameter in parameters:
            parameter.grad.zero_()

    monkeypatch.setattr("innerloop_vos.lwl.training.end_to_end.average_gradients", cancel)
    task.step(0)
    assert all(torch.equal(before[n], v) for n, v in task.network.state_dict().items())


@pytest.mark.parametrize("replacement", [True, False])
def test_pictures_show_one_mini_sequence_and_draw_nothing_from_the_training(clips, replacement):
    task = training(clips, replace(TINY, batch_size=1, replacement=replacement))
    state, place = torch.get_rng_state(), task.sampler.place()
    pictures = task.pictures()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(task.sampler.place(), place)
    names = ["learned from", "labels", "weights", "scores", "prediction"]
    assert list(pictures) == [f"pictures/{name}" for name in names]
    assert all(p.shape[0] == 3 and 0 <= p.min() <= p.max() <= 1 for p in pictures.values())
    assert pictures["pictures/prediction"].shape == (3, 48, 64)
    # Two by two maps of 3x4 at stride 16, with a frame of two pixels around each.
    assert pictures["pictures/scores"].shape == (3, 2 * 5 + 2, 2 * 6 + 2)
    again = task.pictures()
    assert all(torch.equal(again[name], picture) for name, picture in pictures.items())
    task.step(0)
    assert not torch.equal(task.pictures()["pictures/labels"], pictures["pictures/labels"])


def test_pictures_of_the_box_encoder(clips):
    settings = replace(STAGES["box"], height=48, width=64)
    pictures = training(clips, settings, box=True).pictures()
    assert list(pictures) == ["pictures/box", "pictures/prediction"]
    assert not torch.equal(*pictures.values())


def test_a_gradient_that_is_not_finite_is_left_out(clips):
    task = training(clips)
    task.step(0)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    handle = next(task.network.decoder.parameters()).register_hook(lambda g: g * float("nan"))
    assert task.step(1)["left out/share"] == 1
    assert all(torch.equal(before[n], v) for n, v in task.network.state_dict().items())
    handle.remove()
    assert task.step(2)["left out/share"] == 0


def test_frames_without_the_object_give_finite_gradients(clips):
    task = training(clips)
    images, masks = task.crops.batch(2)
    masks[:, 1:] = 0
    loss = task._loss(images, masks)
    loss.backward()
    gradients = [p.grad for p in task.network.parameters() if p.grad is not None]
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("replacement", [True, False])
def test_a_resumed_training_ends_with_the_same_weights(clips, tmp_path, replacement):
    settings = replace(TINY, batch_size=1, replacement=replacement)
    run(training(clips, settings), tmp_path / "whole", 4, every=2)
    for stop in (1, 3, 4):
        run(training(clips, settings), tmp_path / "parts", stop, every=2, resume=stop > 1)
    whole, parts = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(InputError, match="had other settings: seed 0"):
        run(training(clips, replace(settings, seed=1)), tmp_path / "parts", 5, every=2, resume=True)
    with pytest.raises(InputError, match="had other settings: features 16"):
        run(training(clips, settings, features=8), tmp_path / "parts", 5, every=2, resume=True)


def test_held_out_clips_are_measured(clips):
    figures = training(clips, held_out=clips[:1]).evaluate()
    assert figures.keys() == {"held out/J", "held out/F", "J/clip0"}
    assert all(0 <= value <= 1 for value in figures.values())


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("data") / "DAVIS", ["cat", "dog"])


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The option of a training that starts from a file with a tiny backbone."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file(TinyBackbone().state_dict() | {"fc.weight": torch.ones(2)}, path)
    return f"--backbone-weights {path} --backbone-style caffe"


def options(davis, out, more="", stage="1"):
    return (
        f"--stage {stage} --davis {davis} --out {out} --iterations 2 --batch-size 1 --height 48 "
        f"--width 64 --test-frames 1 --held-out dog --held-out-frames 3 --paste 0.5 {more}"
    ).split()


def parse(words):
    parser = argparse.ArgumentParser()
    add_lwl_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.usefixtures("tiny_backbone")
def test_the_stages_follow_one_another_on_the_command_line(davis, start, tmp_path):
    assert train_lwl_from_arguments(parse(options(davis, tmp_path / "1", start)), CPU)
    names = {path.name for path in (tmp_path / "1").iterdir()}
    assert names == {"checkpoint.pt", "curve.json", "curve.png", WEIGHTS}
    for stage, before in (("2", "1"), ("box", "2")):
        init = f"--init {tmp_path / before / WEIGHTS}"
        words = options(davis, tmp_path / stage, init, stage)
        assert train_lwl_from_arguments(parse(words), CPU)
    trained = load_lwl(tmp_path / "box" / WEIGHTS)
    assert trained.box_label_encoder is not None
    first = load_lwl(tmp_path / "2" / WEIGHTS).state_dict()
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in first.items())
    assert "held out/J" in json.loads((tmp_path / "box" / "curve.json").read_text())[-1]


@pytest.mark.parametrize(
    ("stage", "more", "ratio"),
    [("1", "", [6, 1]), ("box", "", [1, 1]), ("box", "--ratio 1:1:1:2", [1, 2])],
)
@pytest.mark.usefixtures("tiny_backbone")
def test_the_box_encoder_sees_images_of_coco_as_often_as_clips(
    davis, tmp_path, monkeypatch, stage, more, ratio
):
    def opened(root):
        return DavisDataset(root, split="train")

    for kind in ("CocoDataset", "YouTubeVOSDataset"):
        monkeypatch.setattr(f"innerloop_vos.training.data.{kind}", opened)
    made = {}
    monkeypatch.setattr(
        "innerloop_vos.lwl.training.command.LWLTraining",
        lambda network, sampler, *more: made.update(sampler=sampler),
    )
    monkeypatch.setattr(
        "innerloop_vos.lwl.training.command.run_from_arguments", lambda *arguments: True
    )
    save_lwl(tiny_lwl(), tmp_path / "start.safetensors")
    words = f"--stage {stage} --init {tmp_path / 'start.safetensors'} --out {tmp_path / 'out'}"
    words += f" --youtube-vos {davis} --coco {davis} {more}"
    assert train_lwl_from_arguments(parse(words.split()), CPU)
    assert made["sampler"].sampler.ratio.tolist() == ratio


@pytest.mark.usefixtures("tiny_backbone")
def test_stage_1_leaves_the_backbone_that_it_was_given(davis, start, tmp_path):
    assert train_lwl_from_arguments(parse(options(davis, tmp_path / "1", start)), CPU)
    given = load_file(start.split()[1])
    found = load_lwl(tmp_path / "1" / WEIGHTS).feature_extractor.state_dict()
    assert given.keys() - found.keys() == {"fc.weight"}
    assert all(torch.equal(value, given[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--batch-size 0", "batch_size should be positive, got 0"),
        ("--test-frames 0", "test_frames should be positive, or 0 for the box encoder, got 0"),
        ("--height 16", "height should be at least 32, got 16"),
        ("--paste 2", r"paste should be in 0\.\.1, got 2"),
        ("--loss l1", "loss should be one of joint, frames, cross-entropy, got l1"),
        ("--decoder-rate -1", "decoder_rate should be 0 or more"),
        ("--decoder-rate nan", "decoder_rate should be 0 or more"),
        ("--held-out cow", "--held-out: cow not among the sequences to train on"),
        ("--held-out cat,dog", "no sequence is left to train on"),
        ("", "--backbone-weights: stage 1 trains on a backbone that it does not change; give"),
        ("--init a --backbone-weights b", "--backbone-weights: the file of --init has a backbone"),
        ("--stage 2", "--init: stage 2 needs the weights of the one before"),
        ("--davis nowhere", "nowhere is not laid out as DAVIS"),
    ],
)
def test_bad_settings_are_named(davis, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        train_lwl_from_arguments(parse(options(davis, tmp_path / "out", more)), CPU)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tiny_backbone")
def test_bad_options_of_the_run_are_named(davis, start, tmp_path):
    arguments = parse(options(davis, tmp_path / "out", f"{start} --every 0"))
    with pytest.raises(InputError, match="every should be positive, got 0"):
        train_lwl_from_arguments(arguments, CPU)
    assert not (tmp_path / "out").exists()


def test_there_must_be_data(tmp_path):
    words = f"--stage 1 --out {tmp_path / 'out'}".split()
    with pytest.raises(InputError, match="nothing to train on"):
        train_lwl_from_arguments(parse(words), CPU)


TINY_COMMAND = """
import sys
from lwl_tiny import TinyBackbone
from innerloop_vos.lwl import builders

builders.CaffeResNet50 = TinyBackbone
from innerloop_vos.cli import main

sys.exit(main())
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(davis, tmp_path):
    command = [sys.executable, "-c", TINY_COMMAND, "train", "lwl", "--device", "cpu"]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    save_lwl(tiny_lwl(), tmp_path / "start.safetensors")
    init = f"--init {tmp_path / 'start.safetensors'}"

    def start(name, more=""):
        words = options(davis, tmp_path / name, f"{init} --iterations 8 --every 2 {more}")
        return subprocess.Popen([*command, *words], env=environment, stderr=subprocess.PIPE)

    assert start("whole").wait() == 0
    more = ""
    for _ in range(2):
        process = start("parts", more)
        checkpoint, seen = tmp_path / "parts" / "checkpoint.pt", None
        if checkpoint.exists():
            seen = checkpoint.stat().st_mtime_ns
        while process.poll() is None:
            time.sleep(0.01)
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen:
                time.sleep(random.uniform(0, 0.2))  # in the middle of a step, or of writing
                process.kill()
                break
        assert process.wait() == -signal.SIGKILL
        more = "--resume"
    assert start("parts", "--resume").wait() == 0
    whole, parts = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_each_process_has_rounds_of_its_own(davis, tmp_path):
    script = tmp_path / "tiny.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n{TINY_COMMAND}"
    )
    save_lwl(tiny_lwl(), tmp_path / "start.safetensors")
    init = f"--init {tmp_path / 'start.safetensors'} --no-replacement --every 1 --device cpu"
    words = options(davis, tmp_path / "out", f"{init} --held-out=")
    torchrun(script, "train", "lwl", *words)
    places = read_state(tmp_path / "out" / "checkpoint.pt")["places"]
    assert places.shape == (2, 2)
    assert places[0, 0] != places[1, 0]


def test_a_small_network_has_its_own_weights(davis, tmp_path, capsys):
    words = f"--davis {davis} --year 2016 --iterations 1 --batch-size 1 --height 48 --width 64"
    words = ["train", "lwl", "--stage", "1", "--network", "efficientnet_lite0", *words.split()]
    assert main([*words, "--backbone-weights", "x.pth", "--out", str(tmp_path / "no")]) == 2
    assert "are of resnet50, not of --network efficientnet_lite0" in capsys.readouterr().err
    assert main([*words, "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    network = load_lwl(tmp_path / "out" / "lwl.safetensors")
    released, _ = released_weights()
    trained = network.feature_extractor.state_dict()
    assert all(torch.equal(trained[name], value) for name, value in released.items())
