"""`innerloop-vos train`: make the weights that ship, or others like them."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from innerloop_vos.agame.builders import FAMILY as AGAMES
from innerloop_vos.agame.training.command import (
    add_agame_arguments,
    train_agame_from_arguments,
)
from innerloop_vos.agame.training.settings import AGAMESettings
from innerloop_vos.commands.outputs import check_outputs, data_folders
from innerloop_vos.configs import config_path
from innerloop_vos.configuration.arguments import option
from innerloop_vos.cosnet.builders import FAMILY as COSNETS
from innerloop_vos.cosnet.training.command import add_cosnet_arguments, train_cosnet_from_arguments
from innerloop_vos.cosnet.training.settings import COSNetSettings
from innerloop_vos.distill import distillation
from innerloop_vos.distill.distillation import (
    DistillationSettings,
    add_arguments,
    train_from_arguments,
)
from innerloop_vos.eosvos import training
from innerloop_vos.eosvos.phases import PHASES
from innerloop_vos.eosvos.train_command import add_eosvos_arguments, train_eosvos_from_arguments
from innerloop_vos.lwl.training import end_to_end
from innerloop_vos.lwl.training.command import add_lwl_arguments, train_lwl_from_arguments
from innerloop_vos.lwl.training.stages import STAGES
from innerloop_vos.lwl_lite.builders import FAMILY as LWL_LITES
from innerloop_vos.lwl_lite.training.command import (
    add_lwl_lite_arguments,
    train_lwl_lite_from_arguments,
)
from innerloop_vos.lwl_lite.training.settings import LWLLiteSettings
from innerloop_vos.methods.registry import add_device_argument, parse_device
from innerloop_vos.rvos.builders import FAMILY as RVOSES
from innerloop_vos.rvos.training.command import add_rvos_arguments, train_rvos_from_arguments
from innerloop_vos.rvos.training.settings import RVOSSettings
from innerloop_vos.training.curve import CURVE
from innerloop_vos.training.loop import CHECKPOINT
from innerloop_vos.training.options import TrainingParser, write_config
from innerloop_vos.training.processes import connected

_FILES = ("init", "teacher", "backbone_weights", "config")
_DATA = ("root", "davis", "youtube_vos", "clips", "coco")

_SHARED = (
    "Options may come from a file (--config). An interrupted run goes on with --resume. Several "
    "processes share a training: torchrun --nproc-per-node 2 -m innerloop_vos.cli train ..."
)


@dataclass(frozen=True)
class _Network:
    """What can be trained.

    Args:
        help: in a few words.
        description: in full.
        declare: declares its options.
        preset: the settings that hold where the options say nothing else.
        train: trains as the options say; False if that was interrupted.
        weights: the name of the file that it makes.
        implied: settings of which it matters whether they are given.
    """

    help: str
    description: str
    declare: Callable[[argparse.ArgumentParser], None]
    preset: Callable[[argparse.Namespace], Any]
    train: Callable[[argparse.Namespace, torch.device], bool]
    weights: str
    implied: tuple[str, ...] = ()


_NETWORKS = {
    "backbone": _Network(
        "distill the embedded backbone",
        "Distill the small backbone from a MobileNetV2 on the frames of DAVIS and on synthetic "
        "images.",
        add_arguments,
        lambda arguments: DistillationSettings(),
        train_from_arguments,
        distillation.WEIGHTS,
    ),
    "lwl-lite": _Network(
        "train LWL-lite",
        "Train LWL-lite on DAVIS, YouTube-VOS, clips of your own, COCO's images or several of "
        "these, measuring J and F of held-out sequences.",
        add_lwl_lite_arguments,
        lambda arguments: LWLLiteSettings(),
        train_lwl_lite_from_arguments,
        LWL_LITES.file,
    ),
    "lwl": _Network(
        "train LWL",
        "Train one stage of LWL on DAVIS, YouTube-VOS, clips of your own, COCO's images or several "
        "of these, measuring J and F of held-out sequences.",
        add_lwl_arguments,
        lambda arguments: STAGES[arguments.stage],
        train_lwl_from_arguments,
        end_to_end.WEIGHTS,
    ),
    "e-osvos": _Network(
        "train e-OSVOS",
        "Train one phase of e-OSVOS on DAVIS, YouTube-VOS, clips of your own, COCO's images or "
        "several of these, measuring J and F of held-out sequences.",
        add_eosvos_arguments,
        lambda arguments: PHASES[arguments.phase],
        train_eosvos_from_arguments,
        training.WEIGHTS,
        implied=("per", "rate"),  # which then take the place of those of --init
    ),
    "rvos": _Network(
        "train RVOS",
        "Train RVOS on DAVIS, YouTube-VOS, clips of your own, COCO's images or several of these, "
        "measuring J and F of held-out sequences.",
        add_rvos_arguments,
        lambda arguments: RVOSSettings(),
        train_rvos_from_arguments,
        RVOSES.file,
    ),
    "a-game": _Network(
        "train A-GAME",
        "Train A-GAME on DAVIS, YouTube-VOS, clips of your own, COCO's images or several of these, "
        "measuring J and F of held-out sequences.",
        add_agame_arguments,
        lambda arguments: AGAMESettings(),
        train_agame_from_arguments,
        AGAMES.file,
    ),
    "cosnet": _Network(
        "train COSNet",
        "Train COSNet on pairs of frames of DAVIS, YouTube-VOS and clips of your own, and on "
        "single images, of COCO or as clips of one frame, in turns. Of held-out sequences, frames "
        "spread over each are segmented to measure J and F.",
        add_cosnet_arguments,
        lambda arguments: COSNetSettings(),
        train_cosnet_from_arguments,
        COSNETS.file,
    ),
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare a command of its own for everything that can be trained."""
    networks = parser.add_subparsers(
        title="networks", metavar="NETWORK", required=True, parser_class=TrainingParser
    )
    for name, network in _NETWORKS.items():
        own = networks.add_parser(
            name, help=network.help, description=f"{network.description} {_SHARED}"
        )
        network.declare(own)
        add_device_argument(own)
        own.set_defaults(run=partial(_run, network))


def _run(network: _Network, arguments: argparse.Namespace) -> None:
    if "print_config" in arguments:
        print(write_config(arguments, network.preset(arguments), network.implied), end="")
        return
    _check_places(arguments, network.weights)
    with connected(parse_device(arguments.device)) as device:
        done = network.train(arguments, device)
    if not done:
        raise KeyboardInterrupt


def _check_places(arguments: argparse.Namespace, weights: str) -> None:
    """Check that nothing that is read is written over."""
    given = dict(vars(arguments))
    if given.get("config") is not None:
        given["config"] = config_path(given["config"])
    written = [Path(arguments.out, name) for name in ("", CHECKPOINT, *CURVE, weights)]
    check_outputs(
        {"--out": written},
        {option(name): [given[name]] for name in _FILES if name in given},
        {option(name): data_folders(given[name]) for name in _DATA if name in given},
    )
