"""The papers' trainings and the released ones: where losses differ and agree; their measurement."""

import shutil
from dataclasses import asdict, replace

import pytest
import torch
from lwl_tiny import tiny_lwl
from test_eosvos_training import training as tiny_eosvos_training

from benchmarks.reproduce import paper_scale
from benchmarks.reproduce.loss_curves import changes, losses, parting, read, training
from benchmarks.reproduce.parts.clips import write_davis
from innerloop_vos.commands import train
from innerloop_vos.configs import config_names
from innerloop_vos.data.sampling import ClipSampler
from innerloop_vos.eosvos.phases import PHASES
from innerloop_vos.eosvos.training import EOSVOSTraining
from innerloop_vos.lwl import save_lwl
from innerloop_vos.lwl.training.end_to_end import LWLTraining
from innerloop_vos.training.options import TrainingParser, read_settings

ITERATIONS = 6


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "davis"
    write_davis(root, ("bear", "cat", "dog", "fox"), 10, (64, 80))
    return root


@pytest.fixture(scope="module")
def curve_of(davis):
    """Curves of stages with some settings changed, each computed once."""
    known = {}

    def curve(stage, **settings):
        key = stage, *sorted(settings.items())
        if key not in known:
            arguments, released = read(f"lwl-released-{stage}", davis)
            known[key] = losses(training(arguments, replace(released, **settings)), ITERATIONS)
        return known[key]

    return curve


def change(davis, stage, kind):
    _, released = read(f"lwl-released-{stage}", davis)
    _, paper = read(f"lwl-paper-{stage}", davis)
    return changes(released, paper)[kind]


def test_the_kinds_of_settings_that_differ(davis):
    for stage, more in (("stage1", set()), ("stage2", {"iterations"}), ("box", {"ratio"})):
        _, released = read(f"lwl-released-{stage}", davis)
        _, paper = read(f"lwl-paper-{stage}", davis)
        always = {"learning rates", "replacement", "colours", "loss", "loss weight"}
        assert changes(released, paper).keys() == always | more


@pytest.mark.parametrize("stage", ["stage1", "stage2", "box"])
def test_other_rates_change_all_losses_but_the_first(davis, curve_of, stage):
    found = curve_of(stage, **change(davis, stage, "learning rates"))
    assert found[0] == curve_of(stage)[0]
    assert parting(found, curve_of(stage)) == 2


@pytest.mark.parametrize(("stage", "kind"), [("stage2", "iterations"), ("box", "ratio")])
def test_the_length_and_the_ratio_to_absent_data_change_nothing(davis, curve_of, stage, kind):
    # The schedule is the same up to the end of the shorter one, and there are no images of COCO.
    assert curve_of(stage, **change(davis, stage, kind)) == curve_of(stage)


def test_the_rates_fall_after_the_step_that_says_so(curve_of):
    assert parting(curve_of("stage1", decay_at=(3,)), curve_of("stage1")) == 5


@pytest.mark.parametrize("stage", ["stage1", "box"])
def test_adam_hardly_sees_the_factor_of_the_loss(davis, curve_of, stage):
    found = curve_of(stage, **change(davis, stage, "loss weight"))
    assert found[0] == pytest.approx(curve_of(stage)[0], rel=1e-6)
    # What it sees is the epsilon that it adds to the root of a squared gradient.
    assert found == pytest.approx(curve_of(stage), rel=1e-4)


@pytest.mark.parametrize("stage", ["stage1", "box"])
def test_the_mean_over_frames_differs_from_one_sort(davis, curve_of, stage):
    assert parting(curve_of(stage, loss="frames"), curve_of(stage)) == 1


@pytest.mark.parametrize(("stage", "one"), [("stage1", {"test_frames": 1}), ("box", {})])
def test_both_losses_are_the_same_on_a_single_frame(curve_of, stage, one):
    single = {"batch_size": 1, **one}
    assert curve_of(stage, **single, loss="frames") == curve_of(stage, **single)


def batches(davis, stage, count, **settings):
    arguments, released = read(f"lwl-released-{stage}", davis)
    task = training(arguments, replace(released, **settings))
    return [task.crops.batch(released.batch_size) for _ in range(count)]


@pytest.mark.parametrize("stage", ["stage1", "box"])
def test_colours_change_the_images_but_neither_masks_nor_draws(davis, curve_of, stage):
    with_colours, without = (batches(davis, stage, 3, colours=each) for each in (True, False))
    for (images, masks), (plain, same) in zip(with_colours, without, strict=True):
        assert torch.equal(masks, same)
        assert not torch.equal(images, plain)
    assert parting(curve_of(stage, colours=False), curve_of(stage)) == 1


def test_without_replacement_every_clip_comes_once_a_round(davis, monkeypatch):
    drawn, opened = [], ClipSampler._open

    def record(self, index):
        drawn.append(index)
        return opened(self, index)

    monkeypatch.setattr(ClipSampler, "_open", record)
    rounds = {}
    for replacement in (True, False):
        arguments, released = read("lwl-released-stage1", davis)
        task = training(arguments, replace(released, replacement=replacement))
        drawn.clear()
        for _ in range(12):
            task.sampler.sample()
        rounds[replacement] = [sorted(drawn[at : at + 4]) for at in (0, 4, 8)]
    assert rounds[False] == [[0, 1, 2, 3]] * 3
    assert rounds[True] != rounds[False]


def test_the_decay_of_the_released_e_osvos_is_rounded_away(davis):
    # Each step scales the weights by 1 - 1e-5 * 1e-3, which is 1 in float32.
    settings = replace(PHASES["meta"], batch_size=1, inner_steps=1)
    found = []
    for decay in (1e-3, 0.0):
        task = tiny_eosvos_training(davis, replace(settings, init_decay=decay))
        curve = [task.step(iteration)["train/loss"] for iteration in range(3)]
        found.append((curve, task.network.state_dict()))
    (curve, weights), (plain, same) = found
    assert curve == plain
    assert all(torch.equal(value, same[name]) for name, value in weights.items())


@pytest.mark.parametrize("name", config_names())
def test_the_commands_at_paper_scale_keep_all_else(name, tmp_path):
    words = paper_scale.command(name, paper_scale.paper_batch(name), 1, 2, tmp_path)
    kind = train._NETWORKS[words[1]]
    parser = TrainingParser()
    kind.declare(parser)
    parser.add_argument("--device")
    found, as_written = (
        asdict(read_settings(arguments, kind.preset(arguments)))
        for each in (words[2:], ["--config", name])
        for arguments in [parser.parse_args([*each, "--out", "x"])]
    )
    changed = {key for key in found if found[key] != as_written[key]}
    parts = {"accumulate"} if name.startswith("lwl") else set()
    assert changed == {"iterations"} | parts


@pytest.mark.usefixtures("tiny_backbone")
def test_steps_are_measured(davis, tmp_path, monkeypatch):
    monkeypatch.setattr(LWLTraining, "step", LWLTraining.step)
    monkeypatch.setattr(EOSVOSTraining, "step", EOSVOSTraining.step)
    threads = torch.get_num_threads()
    save_lwl(tiny_lwl(), tmp_path / "lwl.safetensors")
    shutil.copytree(davis, tmp_path / "davis")
    words = paper_scale.command("lwl-paper-box", 2, 2, 2, tmp_path)
    found = paper_scale.measure([*words, "--height", "48", "--width", "64"], crowded=False)
    torch.set_num_threads(threads)
    assert found["iterations"] == 2
    assert found["GiB"] > 0.1
    assert 0 < found["seconds"] < 60
