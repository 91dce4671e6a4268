"""LWL-lite's training: what is trained, exact resumption, and the command."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from davis_layout import write_davis

from innerloop.errors import InputError
from innerloop_vos import cli
from innerloop_vos.data import Sequence, synthetic_clip
from innerloop_vos.data.tracks import TrackSampler
from innerloop_vos.lwl_lite.builders import FAMILY, lwl_lite
from innerloop_vos.lwl_lite.training.end_to_end import LWLLiteTraining
from innerloop_vos.lwl_lite.training.settings import LWLLiteSettings
from innerloop_vos.training.errors import with_errors
from innerloop_vos.training.loop import run
from innerloop_vos.training.validation import Validation

TINY = LWLLiteSettings(iterations=4, batch_size=2, height=64, width=96, frames=3, warmup=1)
SIZES = {"features": 8, "outputs": 3}


class _Frames(list):
    @property
    def names(self):
        return [f"{index:05d}" for index in range(len(self))]


@pytest.fixture(scope="module")
def clips():
    made = [synthetic_clip(10, (90, 120), objects=2, seed=seed) for seed in range(2)]
    return [Sequence(f"clip{i}", _Frames(f), list(m)) for i, (f, m) in enumerate(made)]


def training(clips, settings=TINY, held_out=()):
    torch.manual_seed(0)
    sampler = TrackSampler(clips, settings.frames, settings.fastest)
    validation = Validation(held_out, 3)
    return LWLLiteTraining(lwl_lite(**SIZES), sampler, validation, settings, fresh=True)


@pytest.mark.parametrize(
    ("more", "trained"),
    [
        ({}, {"decoder", "label_encoder", "target_features", "target_model"}),
        ({"projection_rate": 0.0, "regularization_rate": 0.0}, {"decoder", "label_encoder"}),
        (
            {"backbone_rate": 1e-4},
            {"decoder", "label_encoder", "target_features", "target_model", "backbone"},
        ),
        ({"box_rate": 1e-3, "frames": 1}, {"box_encoder"}),
    ],
)
def test_the_settings_say_what_is_trained(clips, more, trained):
    task = training(clips, replace(TINY, **more))
    task.step(0)  # the projection starts here
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    for iteration in range(1, 4):
        task.step(iteration)
    after = task.network.state_dict()
    early = [n for n in before if n.startswith(("backbone.stem", "backbone.stages.1."))]
    assert all(torch.equal(before[name], after[name]) for name in early)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == trained


def test_errors_add_to_a_mask_or_take_from_it():
    torch.manual_seed(0)
    mask = torch.zeros(60, 90)
    mask[20:40, 30:60] = 0.9
    masks = mask.expand(200, -1, -1)
    assert torch.equal(with_errors(masks, 0.0), masks)
    found = with_errors(masks, 1.0)
    gained, lost = ((found > masks).sum((1, 2)), (found < masks).sum((1, 2)))
    assert not ((gained > 0) & (lost > 0)).any()
    assert 60 < (lost > 0).sum() < 140
    assert 60 < (gained > 0).sum() < 140
    kept = with_errors(masks, 0.25)
    assert 110 < sum(torch.equal(each, mask) for each in kept) < 190
    # Of nothing, nothing can be lost.
    assert (with_errors(torch.zeros(50, 60, 90), 1.0).sum((1, 2)) > 0).all()


@pytest.mark.parametrize("settings", [TINY, replace(TINY, box_rate=1e-3)])
def test_a_resumed_training_ends_with_the_same_weights(clips, settings, tmp_path):
    held_out = clips[:1]
    run(training(clips, settings, held_out), tmp_path / "whole", 4, every=2)
    stopped = training(clips, settings, held_out)
    step = stopped.step

    def interrupted(iteration):
        if iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(iteration)

    stopped.step = interrupted
    assert not run(stopped, tmp_path / "parts", 4, every=2)
    assert run(training(clips, settings, held_out), tmp_path / "parts", 4, every=2, resume=True)
    whole, parts = (lwl_lite(tmp_path / name / FAMILY.file) for name in ("whole", "parts"))
    for (name, ours), theirs in zip(
        whole.state_dict().items(), parts.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("name", "value"),
    [("frames", 1), ("rate", 0.0), ("paste", 2.0), ("errors", -0.1), ("height", 0)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=name):
        replace(TINY, **{name: value})


def test_the_command_trains_from_scratch_and_from_its_own_weights(tmp_path):
    davis = write_davis(tmp_path / "davis", ["cat", "cow"])
    line = (
        f"train lwl-lite --davis {davis} --held-out cow --held-out-frames 3 --iterations 1 "
        "--batch-size 1 --height 64 --width 96 --frames 2 --features 8 --outputs 3 --warmup 1"
    )
    assert cli.main([*line.split(), "--out", str(tmp_path / "first")]) == 0
    weights = tmp_path / "first" / FAMILY.file
    assert lwl_lite(weights).sizes == SIZES
    more = ["--out", str(tmp_path / "second"), "--init", str(weights), "--box-rate", "0.001"]
    assert cli.main([*line.split(), *more]) == 0
    ours, theirs = lwl_lite(weights), lwl_lite(tmp_path / "second" / FAMILY.file)
    assert torch.equal(ours.decoder.head.weight, theirs.decoder.head.weight)
    assert not torch.equal(ours.box_encoder.head.weight, theirs.box_encoder.head.weight)
