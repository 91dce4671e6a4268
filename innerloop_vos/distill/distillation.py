"""How the embedded backbone is made: a small student learns a large teacher's features."""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms import v2

from innerloop.errors import InputError
from innerloop_vos.backbones import Backbone, backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.backbones.small import SmallBackbone
from innerloop_vos.configuration.arguments import add_options, described, read_fields
from innerloop_vos.data.davis import DavisDataset
from innerloop_vos.data.synthetic import synthetic_image
from innerloop_vos.runs.folder import Record, describe
from innerloop_vos.training.loop import Figures, Stateful, Training, cosine_rate, run
from innerloop_vos.training.options import (
    RunOptions,
    add_run_arguments,
    add_settings_arguments,
    read_settings,
)
from innerloop_vos.training.processes import average_gradients
from innerloop_vos.training.settings import (
    require_not_negative,
    require_positive,
    require_share,
    require_sides,
)
from innerloop_vos.weight_files import halved, write_network

WEIGHTS = "small.safetensors"
HELD_OUT = ("bear", "bmx-bumps", "soccerball")
_HELD_OUT_EVERY = 20  # frames
_SYNTHETIC_IMAGES = 300
_FRAME = (480, 854)


@dataclass(frozen=True)
class DistillationSettings:
    """Settings of a distillation.

    Raises:
        InputError: a value is out of its range.
    """

    iterations: int = described(5400, "Number of optimizer steps.")
    batch_size: int = described(8, "Crops per step.")
    crop: int = described(256, "Side of the square crops in pixels.")
    rate: float = described(2e-3, "Peak learning rate of AdamW.")
    weight_decay: float = described(0.02, "Weight decay of AdamW.")
    warmup: int = described(300, "Steps in which the learning rate rises.")
    average: float = described(
        0.998, "Decay per step of the moving average of the weights, which is what ships."
    )
    synthetic: float = described(0.15, "Share of the crops that come from synthetic images.")
    seed: int = described(0, "Seed of the first weights, the batches and their augmentation.")

    def __post_init__(self) -> None:
        require_positive(self, "iterations batch_size rate warmup")
        require_not_negative(self, "weight_decay seed")
        require_sides(self, "crop")
        require_share(self, "average synthetic")


class Distillation(Training):
    """Distills a teacher into the small backbone, matching their target levels in order.

    Args:
        teacher: as many target levels as the student's, of equal shapes. It is changed: frozen
            and folded.
        frames: training images, `(3, H, W)` uint8.
        synthetic: further training images, from which a share of the crops is drawn.
        held_out: images of one size to measure on.
        settings: see there.
        device: where to train.
    """

    def __init__(
        self,
        teacher: Backbone,
        frames: Sequence[Tensor],
        synthetic: Sequence[Tensor],
        held_out: Sequence[Tensor],
        settings: DistillationSettings,
        device: torch.device,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, device
        self.frames, self.synthetic, self.held_out = frames, synthetic, held_out
        fold_norms(teacher)
        # channels_last halves the time of convolutions on CPU.
        layout = torch.channels_last
        self.teacher = teacher.requires_grad_(False).to(device).to(memory_format=layout)
        self.student = SmallBackbone(norm=True).to(device).to(memory_format=layout)
        self.averaged = AveragedModel(
            self.student,
            multi_avg_fn=get_ema_multi_avg_fn(settings.average),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
        )
        self.augment = v2.Compose(
            [
                # In frames of 854x480 these areas make objects 0.5 to 1.2 times their size.
                v2.RandomResizedCrop(settings.crop, scale=(0.11, 0.56), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3),
                v2.RandomApply([v2.GaussianBlur(5, sigma=(0.3, 1.5))], p=0.15),
            ]
        )

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step and return the unexplained variance by level."""
        settings = self.settings
        factor = cosine_rate(iteration, settings.iterations, warmup=settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate * factor
        images = torch.stack([self._crop() for _ in range(settings.batch_size)])
        losses = {
            level: unexplained_variance(student, teacher)
            for level, student, teacher in self._features(self.student.train(), images)
        }
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        average_gradients(self.student.parameters())
        self.optimizer.step()
        self.averaged.update_parameters(self.student)
        return {f"train/{level}": loss.item() for level, loss in losses.items()}

    def rates(self) -> Figures:
        """Return the learning rate of the last step."""
        return {"rate/student": self.optimizer.param_groups[0]["lr"]}

    @torch.inference_mode()
    def evaluate(self) -> Figures:
        """Return unexplained variance and cosine similarity on the held-out images by level."""
        figures: Figures = {}
        images = torch.stack(list(self.held_out))
        for level, student, teacher in self._features(self.averaged.module.eval(), images):
            figures[f"held out/{level}"] = unexplained_variance(student, teacher).item()
            similarity = F.cosine_similarity(student.float(), teacher.float(), dim=1)
            figures[f"cosine/{level}"] = similarity.mean().item()
        return figures

    def export(self, folder: Path) -> None:
        """Write the averaged student, folded and in half precision."""
        student = copy.deepcopy(self.averaged.module)
        fold_norms(student)
        recipe = {"builder": "small", "sizes": {}}
        state = {name: halved(tensor) for name, tensor in student.state_dict().items()}
        write_network(folder / WEIGHTS, state, recipe)

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the settings."""
        return {"settings": asdict(self.settings)}

    def parts(self) -> dict[str, Stateful]:
        """Return student, averaged student and optimizer."""
        return {
            "student": self.student,
            "averaged": self.averaged,
            "optimizer": self.optimizer,
        }

    def _crop(self) -> Tensor:
        made_up = torch.rand(()).item() < self.settings.synthetic
        images = self.synthetic if made_up else self.frames
        crop: Tensor = self.augment(images[int(torch.randint(len(images), ()))])
        return crop

    def _features(
        self, student: torch.nn.Module, images: Tensor
    ) -> list[tuple[str, Tensor, Tensor]]:
        """Return (level's name, student's features, teacher's features) for uint8 images."""
        images = (images / 255).to(self.device)
        # bfloat16 is exact enough for targets this noisy, and up to three times as fast.
        with torch.autocast(self.device.type, torch.bfloat16):
            with torch.no_grad():
                targets = self.teacher(images)
            features = student(images)
        levels = zip(self.student.target_levels, self.teacher.target_levels, strict=True)
        return [(ours, features[ours], targets[theirs]) for ours, theirs in levels]


def unexplained_variance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the share of the variance of the teacher's features that the student's miss.

    Both are scaled to unit length per pixel, as target models see them. Dividing by the variance
    makes levels comparable and discounts what all pixels have in common.

    Args:
        student: features, `(N, C, H, W)`.
        teacher: features of the same shape.

    Returns:
        A scalar: 0 for equal directions, about 1 for a student that knows the mean only.
    """
    predicted, target = F.normalize(student.float(), dim=1), F.normalize(teacher.float(), dim=1)
    variance = (target - target.mean(dim=(0, 2, 3), keepdim=True)).square().sum(dim=1).mean()
    return (predicted - target).square().sum(dim=1).mean() / variance


def train_backbone(
    teacher: str | Path,
    root: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    held_out: Sequence[str] = HELD_OUT,
    settings: DistillationSettings | None = None,
    every: int = 250,
    resume: bool = False,
    tensorboard: bool = False,
    device: torch.device | str = "cpu",
    record: Record | None = None,
) -> bool:
    """Distill the embedded backbone from a MobileNetV2 on the frames of DAVIS.

    Args:
        teacher: the teacher's weights, as `backbone("mobilenet_v2", weights=...)` takes them.
        root: the folder of DAVIS; its 480p frames are kept in memory (2.5 GB for `train`).
        out: folder for the weights (`small.safetensors`), the curve and the checkpoint.
        split: the split to train on.
        held_out: names of sequences in it to measure on instead.
        settings: settings of the distillation; None for the defaults.
        every: steps between two evaluations, each followed by a checkpoint.
        resume: continue from the checkpoint in `out`.
        tensorboard: log for TensorBoard too, in `out`.
        device: where to train.
        record: see `innerloop_vos.training.loop.run`.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the teacher, the data, a setting or `out` cannot be used.
    """
    settings = settings or DistillationSettings()
    network = backbone("mobilenet_v2", teacher)
    clips = {clip.name: clip.frames for clip in DavisDataset(root, split=split)}
    if unknown := set(held_out) - set(clips):
        raise InputError(f"held out: {', '.join(sorted(unknown))} not in split {split!r}")
    synthetic = _SYNTHETIC_IMAGES if settings.synthetic else 0
    training = Distillation(
        network,
        [frame for name in clips if name not in held_out for frame in clips[name]],
        [synthetic_image(_FRAME, seed=seed)[0] for seed in range(synthetic)],
        [frame for name in held_out for frame in clips[name][::_HELD_OUT_EVERY]],
        settings,
        torch.device(device),
    )
    return run(
        training,
        out,
        settings.iterations,
        every=every,
        resume=resume,
        tensorboard=tensorboard,
        record=record,
    )


@dataclass(frozen=True)
class DistillationOptions:
    """Options that say what is learned from."""

    teacher: str = described(MISSING, "weights of the MobileNetV2 to learn from", metavar="FILE")
    root: str = described(MISSING, "folder of DAVIS 2016", metavar="DAVIS")
    split: str = described("train", "frames to train on")
    held_out: str = described(
        ",".join(HELD_OUT),
        "sequences of the split to measure on instead, by commas",
        metavar="NAMES",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train backbone`.

    Args:
        parser: receives the options; `train_from_arguments` takes what it parses.
    """
    add_options(parser, DistillationOptions)
    add_run_arguments(parser, every=250)
    add_settings_arguments(parser, DistillationSettings())


def train_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Run `train_backbone` as the command line asks.

    Args:
        arguments: what a parser with `add_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the teacher, the data, a setting or the output folder cannot be used.
    """
    options = read_fields(arguments, DistillationOptions)
    return train_backbone(
        options.teacher,
        options.root,
        split=options.split,
        held_out=[name for name in options.held_out.split(",") if name],
        settings=read_settings(arguments, DistillationSettings()),
        device=device,
        record=describe(arguments),
        **asdict(read_fields(arguments, RunOptions)),
    )
