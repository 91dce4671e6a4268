"""The command `train lwl`: its options, and the training that they describe."""

import argparse
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from innerloop_vos.backbones import backbone
from innerloop_vos.data import DavisDataset, SequenceFolders
from innerloop_vos.data.pasting import PastingSampler
from innerloop_vos.data.sampling import ClipSampler, MixedSampler
from innerloop_vos.data.youtube_vos import YouTubeVOSDataset
from innerloop_vos.errors import InputError
from innerloop_vos.lwl.builders import LIGHT_SIZES
from innerloop_vos.lwl.network import LWL
from innerloop_vos.lwl.stages import STAGES, LWLTrainingSettings
from innerloop_vos.lwl.training import LWLTraining, Validation
from innerloop_vos.lwl.weights import load_lwl
from innerloop_vos.training import run

_BACKBONES = ("small", "mobilenet_v2")
_SIZES = ("stride", "features", "outputs", "kernel", "label_widths", "decoder_widths", "mask_label")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _ratio(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(":"))


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def add_lwl_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``innerloop-vos train lwl``.

    Args:
        parser: Receives the options; ``train_lwl_from_arguments`` takes what it parses.
    """
    parser.add_argument(
        "--stage",
        required=True,
        choices=STAGES,
        help="1: all but the backbone; 2: all, from --init; box: the box encoder, from --init",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="weights, curve, checkpoint")
    parser.add_argument(
        "--every", type=int, default=1000, help="steps between checkpoints (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="continue the checkpoint in --out")
    _add_data(parser.add_argument_group("data"))
    _add_network(parser.add_argument_group("network"))
    group = parser.add_argument_group(
        "settings", "In brackets: the default, or those of stages 1 | 2 | box."
    )
    described = dict(re.findall(r"^ {8}(\w+): (.+)$", LWLTrainingSettings.__doc__ or "", re.M))
    for field in fields(LWLTrainingSettings):
        defaults = [str(getattr(stage, field.name)) for stage in STAGES.values()]
        shown = " | ".join(defaults if len(set(defaults)) > 1 else defaults[:1])
        group.add_argument(
            _option(field.name),
            type=_numbers if field.name == "decay_at" else type(field.default),
            metavar="STEP,..." if field.name == "decay_at" else None,
            help=f"{described.get(field.name, '')} ({shown})",
        )


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--davis", metavar="ROOT", help="folder of DAVIS, whose train split is used")
    group.add_argument("--year", type=int, default=2016, help="of DAVIS (default: %(default)s)")
    group.add_argument("--youtube-vos", metavar="ROOT", help="folder of YouTube-VOS; as --davis")
    group.add_argument(
        "--ratio",
        type=_ratio,
        default=(6.0, 1.0),
        metavar="Y:D",
        help="mini-sequences of YouTube-VOS to those of DAVIS, where both are given (default: 6:1)",
    )
    group.add_argument(
        "--held-out",
        type=_names,
        default=[],
        metavar="NAMES",
        help="sequences of DAVIS to measure on instead, by commas",
    )
    group.add_argument(
        "--held-out-frames",
        type=int,
        default=20,
        help="how many frames of each (default: %(default)s)",
    )


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--init", metavar="FILE", help="weights of LWL to start from, instead of what follows"
    )
    group.add_argument(
        "--init-heads",
        metavar="FILE",
        help="weights of LWL on another backbone, of which all that fits is taken but the backbone",
    )
    group.add_argument(
        "--backbone", choices=_BACKBONES, default="small", help="(default: %(default)s)"
    )
    group.add_argument(
        "--backbone-weights", default="default", metavar="FILE", help="of another backbone"
    )
    group.add_argument(
        "--stride",
        type=int,
        choices=(8, 16),
        default=LIGHT_SIZES["stride"],
        help="of the target model: one level at 16 as released, or several joined at 8 "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--features", type=int, help="C (default: 512 at stride 16, all that are joined at 8)"
    )
    group.add_argument(
        "--outputs", type=int, default=LIGHT_SIZES["outputs"], help="D (default: %(default)s)"
    )
    group.add_argument("--kernel", type=int, default=3, help="K (default: %(default)s)")
    group.add_argument(
        "--label-widths", type=_numbers, default=(16, 32, 64), help="(default: 16,32,64)"
    )
    group.add_argument(
        "--decoder-widths",
        type=_numbers,
        default=LIGHT_SIZES["decoder_widths"],
        help="coarse to fine (default: 64,64,48,32; released: 256,128,128,64)",
    )
    group.add_argument(
        "--mask-label",
        action=argparse.BooleanOptionalAction,
        default=LIGHT_SIZES["mask_label"],
        help="let the first target score predict the mask, and the decoder correct it",
    )


def train_lwl_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train a stage as the command line asks.

    Args:
        arguments: What a parser with ``add_lwl_arguments`` parsed.
        device: Where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: The data, the weights, a setting or the output folder cannot be used.
    """
    given = {
        field.name: value
        for field in fields(LWLTrainingSettings)
        if (value := getattr(arguments, field.name)) is not None
    }
    settings = replace(STAGES[arguments.stage], **given)
    for name in ("every", "held_out_frames", "features", "outputs"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"{_option(name)} should be positive, got {value}")
    torch.manual_seed(settings.seed)  # the first weights
    sampler, validation = _data(arguments, settings)
    training = LWLTraining(_network(arguments), sampler, validation, settings, device)
    return run(
        training,
        arguments.out,
        settings.iterations,
        every=arguments.every,
        resume=arguments.resume,
    )


def _data(
    arguments: argparse.Namespace, settings: LWLTrainingSettings
) -> tuple[PastingSampler, Validation]:
    held_out: set[str] = set(arguments.held_out)
    sources: list[tuple[SequenceFolders, float]] = []
    if arguments.youtube_vos:
        sources.append((YouTubeVOSDataset(arguments.youtube_vos), arguments.ratio[0]))
    clips = []
    if arguments.davis:
        davis = DavisDataset(arguments.davis, arguments.year, split="train")
        if unknown := held_out - set(davis.names):
            raise InputError(f"--held-out: {', '.join(sorted(unknown))} not in DAVIS's train split")
        clips = [davis[name] for name in arguments.held_out]
        names = [name for name in davis.names if name not in held_out]
        if not names:
            raise InputError("--held-out: no sequence of DAVIS is left to train on")
        rest = DavisDataset(arguments.davis, arguments.year, sequences=names)
        sources.append((rest, arguments.ratio[-1]))
    elif held_out:
        raise InputError("--held-out: the sequences are those of --davis, which is not given")
    if not sources:
        raise InputError("there is nothing to train on: give --davis, --youtube-vos or both")
    length = 1 + settings.test_frames
    mixed = MixedSampler(
        [ClipSampler(dataset, length, settings.window) for dataset, _ in sources],
        [share for _, share in sources],
    )
    return (
        PastingSampler(mixed, settings.paste),
        Validation(clips, arguments.held_out_frames),
    )


def _network(arguments: argparse.Namespace) -> LWL:
    box = arguments.stage == "box"
    if arguments.init is None:
        if arguments.stage != "1":
            raise InputError(f"--init: stage {arguments.stage} needs the weights of the one before")
        if arguments.kernel < 1 or arguments.kernel % 2 == 0:
            raise InputError(f"--kernel should be odd and positive, got {arguments.kernel}")
        for name, count in (("label_widths", 3), ("decoder_widths", 4)):
            widths = getattr(arguments, name)
            if len(widths) != count or min(widths) < 2:
                raise InputError(f"{_option(name)} should be {count} numbers from 2, got {widths}")
        chosen = {name: getattr(arguments, name) for name in _SIZES}
        network = LWL(backbone(arguments.backbone, arguments.backbone_weights), **chosen)
        if arguments.init_heads:
            _take_heads(network, load_lwl(arguments.init_heads))
        return network
    network = load_lwl(Path(arguments.init))
    if not box or network.box_label_encoder is not None:
        return network
    sizes: dict[str, Any] = {**network.sizes, "box": True}
    with_box = LWL(network.feature_extractor, **sizes)
    with_box.load_state_dict(network.state_dict(), strict=False)
    return with_box


def _take_heads(network: LWL, other: LWL) -> None:
    own = network.state_dict()
    taken = {
        name: value
        for name, value in other.state_dict().items()
        if not name.startswith("feature_extractor.") and value.shape == own[name].shape
    }
    network.load_state_dict(taken, strict=False)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
