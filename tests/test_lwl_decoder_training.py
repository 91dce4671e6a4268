"""The training of LWL's decoder alone: what it records, draws, changes, and resumes from."""

import argparse
import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from davis_layout import write_davis
from lwl_tiny import TINY_SIZES
from safetensors.torch import load_file
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop_vos.backbones import backbone
from innerloop_vos.data import Sequence, synthetic_clip
from innerloop_vos.lwl import LWL, LWLSegmenter, load_lwl
from innerloop_vos.lwl.presets import LIGHT
from innerloop_vos.lwl.training.decoder import DecoderTraining, DecoderTrainingSettings
from innerloop_vos.lwl.training.decoder_command import (
    add_lwl_decoder_arguments,
    train_lwl_decoder_from_arguments,
)
from innerloop_vos.lwl.training.end_to_end import WEIGHTS
from innerloop_vos.lwl.training.replay import Replay
from innerloop_vos.postprocessing.calibration import calibrate
from innerloop_vos.training.loop import run
from innerloop_vos.training.validation import Validation

PRESET = LIGHT.changed(output=(96, 160), capacity=2, init_steps=4, update_steps=1)
TINY = DecoderTrainingSettings(
    iterations=4,
    batch_size=2,
    height=64,
    width=96,
    record_every=2,
    tracked_clips=2,
    interval=2,
    tracked_frames=3,
    warmup=1,
)


class _Frames(list):
    @property
    def names(self):
        return [f"{index:05d}" for index in range(len(self))]


@pytest.fixture(scope="module")
def clips():
    made = [synthetic_clip(7, (96, 160), objects=2, seed=seed) for seed in range(2)]
    return [Sequence(f"clip{i}", _Frames(f), list(m)) for i, (f, m) in enumerate(made)]


@pytest.fixture(autouse=True)
def small_input(monkeypatch):
    monkeypatch.setattr("innerloop_vos.lwl.model.network.LIGHT", PRESET)
    monkeypatch.setattr("innerloop_vos.lwl.training.network_options.of_small", lambda sizes: PRESET)


def network(**sizes):
    torch.manual_seed(1)
    return LWL(backbone("small"), **(TINY_SIZES | sizes))


def training(clips, settings=TINY, **sizes):
    return DecoderTraining(network(**sizes), clips, Validation(clips[:1], 3), settings)


def test_the_replay_holds_what_the_decoder_saw(clips):
    net = network().eval()
    seen = []
    decode = net.decoder.forward
    net.decoder.forward = lambda *parts: seen.append(parts) or decode(*parts)
    segmenter = LWLSegmenter(net)
    replay = Replay(clips, 1, 2, 3, (64, 96))
    replay.record(segmenter)
    (tracked,) = replay.tracked
    assert [t.id for t in tracked] == [1, 2] * (len(tracked) // 2)
    clip = clips[tracked[0].clip]
    for index, found in enumerate(tracked):
        scores, levels, images = (part for part in seen[index // 2])
        assert torch.equal(found.region.crop(clip.frames[found.frame] / 255), images[index % 2])
        expected = torch.cat([calibrate(scores[index % 2, :1]), scores[index % 2, 1:]])
        assert torch.equal(found.scores, expected.half())
        assert levels.keys() == net.seen_by_decoder(images).keys()


def test_an_object_that_is_away_for_a_while_is_followed(clips, monkeypatch):
    whole = clips[0]
    masks = [
        mask if t not in (2, 3) else torch.zeros_like(mask) for t, mask in enumerate(whole.masks)
    ]
    away = Sequence("away", whole.frames, masks)
    replay = Replay([away], 1, 1, 7, (64, 96))
    monkeypatch.setattr(replay, "_course", lambda shown: list(range(7)))
    replay.record(LWLSegmenter(network().eval()))
    assert [seen.frame for seen in replay.tracked[0] if seen.id == 1] == [1, 2, 3, 4, 5, 6]


def test_clips_are_followed_both_ways_at_various_speeds():
    torch.manual_seed(0)
    replay = Replay([], 1, 3, 4, (64, 96))
    courses = [replay._course(list(range(20, 50))) for _ in range(200)]
    speeds = set()
    for frames in courses:
        steps = {b - a for a, b in pairwise(frames)}
        assert len(frames) == 4
        assert len(steps) == 1
        assert set(frames) <= set(range(20, 50))
        speeds |= steps
    assert speeds == {-5, -4, -3, -2, -1, 1, 2, 3, 4, 5}
    assert replay._course([7]) == [7]


def test_windows_cut_image_scores_and_mask_alike(clips, monkeypatch):
    replay = Replay(clips, 2, 2, 3, (64, 96))
    replay.record(LWLSegmenter(network().eval()))
    replay._recolour = lambda image: image
    for clip in replay.tracked:
        for index, found in enumerate(clip):
            labels = clips[found.clip].masks[found.frame] == found.id
            shrunk = F.avg_pool2d(found.region.crop_mask(labels.float())[None], 8)
            clip[index] = replace(found, scores=shrunk)
    flips = set()
    monkeypatch.setattr(
        "innerloop_vos.lwl.training.replay.choice",
        lambda items: flips.add(str(items)) or items[int(torch.randint(len(items), ()))],
    )
    images, scores, masks = replay.batch(6)
    assert images.shape == (6, 3, 64, 96)
    assert masks.shape == (6, 64, 96)
    # The "scores" are the masks themselves, shrunk: they lie where the masks do.
    torch.testing.assert_close(F.avg_pool2d(masks[:, None], 8), scores)
    assert str([False, True]) in flips


def test_only_the_decoder_changes_and_it_learns(clips):
    settings = replace(TINY, iterations=60, warmup=5, rate=2e-3, record_every=60)
    task = training(clips, settings)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    task.step(0)
    drawn = task.replay.batch(2)
    task.replay.batch = lambda count: drawn
    losses = [sum(task.step(iteration).values()) for iteration in range(1, 50)]
    assert losses[-1] < 0.8 * losses[0]
    after = task.network.state_dict()
    changed = {
        name.partition(".")[0] for name in after if not torch.equal(before[name], after[name])
    }
    assert changed == {"decoder"}


def test_corrections_are_bounded():
    net = network().eval()
    torch.nn.init.normal_(net.decoder.project.conv3.weight, std=100)
    images, scores = torch.rand(1, 3, 64, 96), torch.randn(1, 2, 8, 12)
    with torch.no_grad():
        found = net.decoder.correct(scores, net.seen_by_decoder(images), images)
        torch.nn.init.zeros_(net.decoder.project.conv3.weight)
        base = net.decoder.correct(scores, net.seen_by_decoder(images), images)
    assert 1.5 < (found - base).abs().max() <= 2 + 1e-5


def test_clips_are_tracked_anew_with_the_decoder_as_it_is(clips):
    task = training(clips)
    held = []
    for iteration in range(4):
        task.step(iteration)
        held.append(task.replay.tracked)
    assert held[0] is held[1]
    assert held[1] is not held[2]
    assert held[2] is held[3]


def test_a_resumed_training_ends_with_the_same_weights(clips, tmp_path):
    run(training(clips), tmp_path / "whole", 4, every=2)
    for stop in (1, 3, 4):
        run(training(clips), tmp_path / "parts", stop, every=2, resume=stop > 1)
    whole, parts = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(InputError, match="had other settings: seed 0"):
        run(training(clips, replace(TINY, seed=1)), tmp_path / "parts", 5, every=2, resume=True)


def options(davis, out, more=""):
    return (
        f"--davis {davis} --out {out} --iterations 1 --batch-size 1 --height 64 --width 96 "
        "--tracked-frames 3 --held-out dog --held-out-frames 3 --outputs 2 --label-widths 4,8,8 "
        f"--decoder-widths 8,8,8,8 {more}"
    ).split()


def train(words):
    parser = argparse.ArgumentParser()
    add_lwl_decoder_arguments(parser)
    return train_lwl_decoder_from_arguments(parser.parse_args(words), torch.device("cpu"))


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("data") / "DAVIS", ["cat", "dog"])


def test_the_command_writes_a_network_and_its_curve(davis, tmp_path):
    assert train(options(davis, tmp_path / "out"))
    assert load_lwl(tmp_path / "out" / WEIGHTS).sizes["mask_label"]
    assert "held out/J" in json.loads((tmp_path / "out" / "curve.json").read_text())[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--batch-size 0", "batch_size should be positive, got 0"),
        ("--height 40", "height should be a positive multiple of 16, got 40"),
        ("--width 480", r"height, width: \(64, 480\), should be at most \(96, 160\)"),
        ("--tracked-frames 1", "tracked_frames should be at least 2, got 1"),
        ("--rate 0", "rate should be positive"),
        ("--no-mask-label", "its decoder corrects no mask"),
        ("--held-out cat,dog", "no sequence is left to train on"),
        ("--coco nowhere", "--coco: this training follows objects through clips"),
    ],
)
def test_bad_settings_are_named(davis, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        train(options(davis, tmp_path / "out", more))
    assert not (tmp_path / "out").exists()


def test_clips_without_annotations_are_refused(clips):
    bare = [Sequence("bare", clips[0].frames, [None] * 7)]
    with pytest.raises(InputError, match="none has two annotated frames"):
        training(bare).step(0)
