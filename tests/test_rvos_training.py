"""RVOS's training: what it draws, that it learns, exact resumption, and the command."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from davis_layout import write_davis
from rvos_tiny import WIDTHS, tiny

from innerloop.errors import InputError
from innerloop_vos import cli
from innerloop_vos.data import Sequence, synthetic_clip
from innerloop_vos.data.sampling import MiniSequence
from innerloop_vos.data.several import SeveralSampler
from innerloop_vos.data.tracks import TrackSampler
from innerloop_vos.rvos import RVOSSegmenter, RVOSZeroShotSegmenter, rvos
from innerloop_vos.rvos.builders import FAMILY
from innerloop_vos.rvos.training.end_to_end import RVOSTraining
from innerloop_vos.rvos.training.held_out import found_figures
from innerloop_vos.rvos.training.settings import RVOSSettings
from innerloop_vos.rvos.training.unrolling import discover, follow, see
from innerloop_vos.training.loop import run
from innerloop_vos.training.validation import Validation
from innerloop_vos.unsupervised import UnsupervisedSegmenter

TINY = RVOSSettings(iterations=4, batch_size=2, height=64, width=96, frames=3, warmup=1, objects=2)
TASKS = ("one-shot", "zero-shot")


class _Frames(list):
    @property
    def names(self):
        return [f"{index:05d}" for index in range(len(self))]


@pytest.fixture(scope="module")
def clips():
    made = [synthetic_clip(10, (90, 120), objects=2, seed=seed) for seed in range(2)]
    return [Sequence(f"clip{i}", _Frames(f), list(m)) for i, (f, m) in enumerate(made)]


def training(clips, settings=TINY, held_out=(), recurrence="ST"):
    torch.manual_seed(0)
    sampler = TrackSampler(clips, settings.frames, settings.fastest)
    network = rvos(widths=WIDTHS, recurrence=recurrence)
    return RVOSTraining(network, sampler, Validation(held_out, 3), settings)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_scenes_show_several_objects_that_do_not_overlap(clips, most):
    torch.manual_seed(0)
    scenes = SeveralSampler(TrackSampler(clips, 3), (64, 96), most)
    counts = set()
    for _ in range(8):
        images, masks = scenes.batch(2)
        assert images.shape == (2, 3, 3, 64, 96)
        assert -1e-3 <= images.min() <= images.max() <= 1.001
        assert masks.shape == (2, 3, masks.shape[2], 64, 96)
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
        assert masks.sum(2).max() == 1
        there = masks[:, 0].sum((2, 3))
        assert ((there > 200) | (there == 0)).all()
        # Those that a clip does not have come last; one of both has them all.
        assert (there > 0).sum(1).max() == masks.shape[2] <= most
        assert ((there > 0).int().diff(dim=1) <= 0).all()
        counts |= set((there > 0).sum(1).tolist())
    assert counts == set(range(1, most + 1))


def test_objects_of_other_clips_are_pasted_where_a_clip_shows_few():
    frames, masks = synthetic_clip(6, (90, 120), objects=1, seed=0)
    clip = Sequence("clip", _Frames(frames), list(masks))
    torch.manual_seed(0)
    scenes = SeveralSampler(TrackSampler([clip], 2), (64, 96), 3)
    counts = [int((scenes.batch(1)[1][0, 0].sum((1, 2)) > 0).sum()) for _ in range(20)]
    assert {1, 2} <= set(counts)
    assert max(counts) <= 3


def test_all_objects_of_a_clip_are_told(clips):
    torch.manual_seed(0)
    drawn = TrackSampler(clips, 3).sample()
    assert isinstance(drawn, MiniSequence)
    for mask, others in zip(drawn.masks, drawn.others, strict=True):
        assert others.shape == (1, *mask.shape)
        assert not (mask & others[0]).any()


def batch(count=2):
    torch.manual_seed(1)
    images = torch.rand(2, 3, 3, 64, 96)
    masks = torch.zeros(2, 3, count, 64, 96)
    masks[:, :, 0, 10:30, 10:40] = 1
    masks[:1, :, 1:, 35:60, 50:90] = 1
    # Each of its own colour, so that they can be told apart.
    images[:, :, 0] = images[:, :, 0] * (1 - masks[:, :, 0]) + masks[:, :, 0]
    images[:, :, 1] = images[:, :, 1] * (1 - masks[:, :, 1]) + masks[:, :, 1]
    return images, masks


@torch.no_grad()
def test_a_clip_is_followed_as_a_segmenter_follows_it():
    network = tiny()
    images, masks = batch()
    images = (255 * images).byte().float() / 255
    found = follow(network, see(network, images), masks, masks[:, 0], inferred=True)
    assert found.shape == (2, 3, 2, 64, 96)
    segmenter = RVOSSegmenter(network)
    labels = (masks[0, 0] * torch.tensor([1, 2]).view(2, 1, 1)).sum(0).byte()
    frames = (255 * images[0]).round().byte()
    segmenter.start(frames[0], labels)
    for t in (1, 2):
        segmenter.step(frames[t])
        torch.testing.assert_close(found[0, t], segmenter.observation.logits, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_later_frames_are_told_true_masks_or_what_was_found():
    network = tiny()
    images, masks = batch()
    frames = see(network, images)
    true, own = (
        follow(network, frames, masks, masks[:, 0], inferred=inferred) for inferred in (False, True)
    )
    assert torch.equal(true[:, :2], own[:, :2])
    assert not torch.equal(true[:, 2], own[:, 2])
    changed = masks.clone()
    changed[:, 1] = 0
    told = follow(network, frames, changed, masks[:, 0], inferred=False)
    assert torch.equal(true[:, :2], told[:, :2])
    assert not torch.equal(true[:, 2], told[:, 2])
    blind = follow(network, frames, changed, masks[:, 0], inferred=True)
    assert torch.equal(own, blind)


@torch.no_grad()
@pytest.mark.parametrize("inferred", [False, True])
def test_masks_after_the_true_one_may_have_errors(inferred):
    network = tiny()
    images, masks = batch()
    frames = see(network, images)
    right = follow(network, frames, masks, masks[:, 0], inferred=inferred)
    asked = []

    def nothing(told):
        asked.append(told.shape)
        return torch.zeros_like(told)

    wrong = follow(network, frames, masks, masks[:, 0], inferred=inferred, disturb=nothing)
    assert asked == [(4, 64, 96)]
    assert torch.equal(right[:, :2], wrong[:, :2])
    assert not torch.equal(right[:, 2], wrong[:, 2])


@torch.no_grad()
def test_an_object_that_a_clip_does_not_have_changes_none_of_its_own():
    network = tiny()
    images, masks = batch()
    frames = see(network, images)
    both = follow(network, frames, masks, masks[:, 0], inferred=True)
    alone = follow(network, frames, masks[:, :, :1], masks[:, 0, :1], inferred=True)
    torch.testing.assert_close(both[1, :, 0], alone[1, :, 0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(both[0, 2, 0], alone[0, 2, 0], atol=1e-2)


@torch.no_grad()
def test_a_clip_is_searched_as_a_segmenter_searches_it():
    network = tiny()
    images, _ = batch()
    images = (255 * images).byte().float() / 255
    logits, scores = discover(network, see(network, images), 3)
    assert logits.shape == (2, 3, 3, 64, 96)
    assert scores.shape == (2, 3, 3)
    torch.nn.init.constant_(network.decoder.stop.bias, 50.0)
    segmenter = RVOSZeroShotSegmenter(network)
    segmenter.options = replace(segmenter.options, objects=3)
    frames = (255 * images[1]).round().byte()
    segmenter.start(frames)
    for t in range(3):
        labels = segmenter.step(frames[t])
        best = logits[1, t].max(0)
        agree = labels.long() == best.indices + 1
        assert agree[best.values > 0].float().mean() > 0.99


@pytest.mark.parametrize("task", TASKS)
def test_training_on_one_batch_lowers_its_loss(clips, task):
    settings = replace(
        TINY, task=task, iterations=1000, rate=1e-2, boxes=0.0, inferred_from=1.0, clip=100.0
    )
    trainer = training(clips, settings)
    drawn = batch()
    trainer.scenes.batch = lambda count: drawn
    losses = [trainer.step(iteration) for iteration in range(25)]
    name = f"train/{task}"
    assert losses[-1][name] < losses[0][name] - 0.15
    if task == "zero-shot":
        assert losses[-1]["train/stop"] < losses[0]["train/stop"]


@pytest.mark.parametrize(
    ("more", "trained"),
    [({}, {"decoder", "backbone"}), ({"backbone_rate": 0.0}, {"decoder"})],
)
def test_the_settings_say_what_is_trained(clips, more, trained):
    trainer = training(clips, replace(TINY, **more))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    figures = [trainer.step(iteration) for iteration in range(2)]
    tasks = {f"train/{task}{loss}" for task in TASKS for loss in ("", " cross-entropy")}
    assert set(figures[0]) == {*tasks, "train/stop", "left out/share"}
    after = trainer.network.state_dict()
    early = [n for n in before if n.startswith(("backbone.stem", "backbone.stages.1."))]
    assert all(torch.equal(before[name], after[name]) for name in early)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == trained


def test_a_resumed_training_ends_with_the_same_weights(clips, tmp_path):
    settings = replace(TINY, bfloat16=True)
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
    whole, parts = (rvos(tmp_path / name / FAMILY.file) for name in ("whole", "parts"))
    for (name, ours), theirs in zip(
        whole.state_dict().items(), parts.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_held_out_figures_are_of_the_task(clips):
    for task, names in (
        ("one-shot", {"held out/J", "held out/F", "J/clip0"}),
        ("zero-shot", {"held out/zero-shot J", "held out/zero-shot F", "zero-shot J/clip0"}),
    ):
        figures = training(clips, replace(TINY, task=task), clips[:1]).evaluate()
        assert set(figures) == names
        assert all(0 <= value <= 1 for value in figures.values())


class _Oracle(UnsupervisedSegmenter):
    """Finds what is annotated, under other ids, and something else."""

    def __init__(self, clip, ids):
        super().__init__()
        self.clip, self.ids = clip, ids

    def begin(self, frames):
        self.time = -1

    def find(self, frame):
        self.time += 1
        masks = self.clip.masks[self.time]
        found = torch.zeros_like(masks)
        found[:5, :5] = 9
        for ours, theirs in self.ids.items():
            found[masks == ours] = theirs
        return found


def test_objects_that_were_found_are_matched_in_the_first_frame(clips):
    validation = Validation(clips[:1], 5)
    assert found_figures(_Oracle(clips[0], {1: 2, 2: 1}), validation)["held out/zero-shot J"] > 0.95
    half = found_figures(_Oracle(clips[0], {2: 7}), validation)["held out/zero-shot J"]
    assert 0.4 < half < 0.6
    assert found_figures(_Oracle(clips[0], {}), Validation([], 5)) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", 0),
        ("objects", 0),
        ("rate", 0.0),
        ("inferred_from", 2.0),
        ("boxes", -0.1),
        ("height", 0),
        ("task", "two-shot"),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=name):
        replace(TINY, **{name: value})


def test_the_command_trains_from_scratch_and_from_its_own_weights(tmp_path):
    davis = write_davis(tmp_path / "davis", ["cat", "cow"])
    line = (
        f"train rvos --davis {davis} --held-out cow --held-out-frames 3 --iterations 1 "
        "--batch-size 1 --height 64 --width 96 --frames 2 --warmup 1"
    )
    first = ["--recurrence", "S", "--out", str(tmp_path / "first")]
    assert cli.main([*line.split(), *first]) == 0
    weights = tmp_path / "first" / FAMILY.file
    assert rvos(weights).sizes["recurrence"] == "S"
    more = ["--out", str(tmp_path / "second"), "--init", str(weights), "--task", "one-shot"]
    assert cli.main([*line.split(), *more]) == 0
    assert rvos(tmp_path / "second" / FAMILY.file).sizes["recurrence"] == "S"
