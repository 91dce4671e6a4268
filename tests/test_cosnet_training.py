"""COSNet's training: its turns and losses, what is trained, exact resumption, and the command."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from davis_layout import write_davis

from innerloop.errors import InputError
from innerloop_vos import cli
from innerloop_vos.cosnet.builders import FAMILY, cosnet
from innerloop_vos.cosnet.training.losses import balanced_cross_entropy
from innerloop_vos.cosnet.training.settings import COSNetSettings
from innerloop_vos.cosnet.training.siamese import COSNetTraining
from innerloop_vos.data import Sequence, synthetic_clip
from innerloop_vos.data.foreground import ForegroundSampler
from innerloop_vos.training.loop import run
from innerloop_vos.training.validation import UnsupervisedValidation

TINY = COSNetSettings(iterations=4, batch_size=1, height=64, width=96, warmup=1)
SIZES = {"co_attention": "symmetric", "channels": 8}


class _Frames(list):
    @property
    def names(self):
        return [f"{index:05d}" for index in range(len(self))]


@pytest.fixture(scope="module")
def clips():
    made = [synthetic_clip(6, (90, 120), objects=2, seed=seed) for seed in range(2)]
    return [Sequence(f"clip{i}", _Frames(f), list(m)) for i, (f, m) in enumerate(made)]


def training(clips, settings=TINY, held_out=(), kinds=("videos", "images")):
    torch.manual_seed(0)
    samplers = {
        "videos": ForegroundSampler(clips, 2) if "videos" in kinds else None,
        "images": ForegroundSampler(clips, 1) if "images" in kinds else None,
    }
    validation = UnsupervisedValidation(held_out, 3)
    return COSNetTraining(cosnet(**SIZES), **samplers, validation=validation, settings=settings)


def changed(task, iterations):
    """The tensors that some steps change."""
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    for iteration in iterations:
        task.step(iteration)
    after = task.network.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("rate", [0.0, 1e-4])
def test_the_settings_say_what_is_trained(clips, rate):
    task = training(clips, replace(TINY, backbone_rate=rate))
    names = changed(task, range(2))
    parts = {name.partition(".")[0] for name in names}
    assert parts == {"embedding", "co_attention", "head"} | ({"backbone"} if rate else set())
    modules = dict(task.network.named_modules())
    convolutions = [modules[n.rpartition(".")[0]] for n in names if n.startswith("backbone.")]
    assert all(each.groups == 1 for each in convolutions)
    assert not any(name.startswith(("backbone.stem", "backbone.stages.1.")) for name in names)


def test_steps_on_images_and_on_pairs_take_turns(clips):
    settings = replace(TINY, weight_decay=0.0)
    task = training(clips, settings)
    shapes = []
    forward = task.network.forward
    task.network.forward = lambda images: shapes.append(images.shape) or forward(images)
    changed(task, range(4))
    assert [shape[:2] for shape in shapes] == [(1, 2), (2, 1), (1, 2), (2, 1)]
    for kind, length in (("videos", 2), ("images", 1)):
        task = training(clips, settings, kinds=(kind,))
        learned = any(name.startswith("co_attention") for name in changed(task, range(2)))
        assert learned == (length == 2)


def test_the_cross_entropy_weighs_both_classes_as_the_other_is_large():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    masks = torch.zeros(2, 4, 5, dtype=torch.float64)
    masks[0, 0, :3] = 1
    total = 0.0
    for image, mask in zip(logits, masks, strict=True):
        share = max(mask.mean().item(), 0.1)
        for logit, is_object in zip(image.flatten(), mask.flatten(), strict=True):
            if is_object:
                total -= 2 * (1 - share) * logit.sigmoid().log()
            else:
                total -= 2 * share * (1 - logit.sigmoid()).log()
    torch.testing.assert_close(balanced_cross_entropy(logits, masks, 0.1), total / 40)
    assert torch.autograd.gradcheck(lambda x: balanced_cross_entropy(x, masks, 0.1), (logits,))
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks)
    torch.testing.assert_close(balanced_cross_entropy(logits, masks, 0.5), plain)


def test_a_resumed_training_ends_with_the_same_weights(clips, tmp_path):
    held_out = clips[:1]
    run(training(clips, TINY, held_out), tmp_path / "whole", 4, every=4)
    stopped = training(clips, TINY, held_out)
    step = stopped.step

    def interrupted(iteration):
        if iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(iteration)

    stopped.step = interrupted
    assert not run(stopped, tmp_path / "parts", 4, every=4)
    assert run(training(clips, TINY, held_out), tmp_path / "parts", 4, every=4, resume=True)
    whole, parts = (cosnet(tmp_path / name / FAMILY.file) for name in ("whole", "parts"))
    for (name, ours), theirs in zip(
        whole.state_dict().items(), parts.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("name", "value"),
    [("iterations", 0), ("rate", 0.0), ("balance", 0.6), ("lovasz", -1.0), ("height", 0)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=name):
        replace(TINY, **{name: value})


def test_the_command_trains_from_scratch_and_from_its_own_weights(tmp_path):
    davis = write_davis(tmp_path / "davis", ["cat", "cow"], length=4)
    line = (
        f"train cosnet --davis {davis} --held-out cow --held-out-frames 3 --iterations 1 "
        "--batch-size 1 --height 64 --width 96 --co-attention channel --channels 8 --warmup 1"
    )
    assert cli.main([*line.split(), "--out", str(tmp_path / "first")]) == 0
    weights = tmp_path / "first" / FAMILY.file
    assert cosnet(weights).sizes == {"co_attention": "channel", "channels": 8}
    more = ["--out", str(tmp_path / "second"), "--init", str(weights)]
    assert cli.main([*line.split(), *more]) == 0
    ours, theirs = cosnet(weights), cosnet(tmp_path / "second" / FAMILY.file)
    assert not torch.equal(ours.head.head.weight, theirs.head.head.weight)
    # The step of the second training was a small one, from the weights of the first.
    assert (ours.head.head.weight - theirs.head.head.weight).abs().max() < 0.01
