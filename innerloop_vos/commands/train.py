"""`innerloop-vos train`: make the weights that ship, or others like them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from innerloop_vos.commands.outputs import check_outputs, data_folders
from innerloop_vos.configuration.arguments import option
from innerloop_vos.distill import distillation
from innerloop_vos.distill.distillation import add_arguments, train_from_arguments
from innerloop_vos.eosvos import training
from innerloop_vos.eosvos.train_command import add_eosvos_arguments, train_eosvos_from_arguments
from innerloop_vos.lwl.training import end_to_end
from innerloop_vos.lwl.training.command import add_lwl_arguments, train_lwl_from_arguments
from innerloop_vos.lwl.training.decoder_command import (
    add_lwl_decoder_arguments,
    train_lwl_decoder_from_arguments,
)
from innerloop_vos.methods.registry import add_device_argument, parse_device
from innerloop_vos.training.curve import CURVE
from innerloop_vos.training.loop import CHECKPOINT
from innerloop_vos.training.options import TrainingParser
from innerloop_vos.training.processes import connected

_FILES = ("init", "teacher", "backbone_weights", "config")
_DATA = ("root", "davis", "youtube_vos", "clips", "coco")

_SHARED = (
    "Options may come from a file (--config). An interrupted run goes on with --resume. Several "
    "processes share a training: torchrun --nproc-per-node 2 -m innerloop_vos.cli train ..."
)


def add_parser(commands: Any) -> None:
    """Declare the command, with a command of its own for everything that can be trained."""
    parser = commands.add_parser("train", help="train a network")
    networks = parser.add_subparsers(
        title="networks", metavar="NETWORK", required=True, parser_class=TrainingParser
    )
    backbone = networks.add_parser(
        "backbone",
        help="distill the embedded backbone",
        description="Distill the small backbone from a MobileNetV2 on the frames of DAVIS and on "
        f"synthetic images. {_SHARED}",
    )
    add_arguments(backbone)
    lwl = networks.add_parser(
        "lwl",
        help="train LWL",
        description="Train one stage of LWL on DAVIS, YouTube-VOS, clips of your own, COCO's "
        f"images or several of these, measuring J and F of held-out sequences. {_SHARED}",
    )
    add_lwl_arguments(lwl)
    lwl_decoder = networks.add_parser(
        "lwl-decoder",
        help="train LWL's decoder alone, on clips that it tracks",
        description="Track the clips of DAVIS, YouTube-VOS or your own with LWL, and train its "
        f"decoder on what it then sees, measuring J and F of held-out sequences. {_SHARED}",
    )
    add_lwl_decoder_arguments(lwl_decoder)
    eosvos = networks.add_parser(
        "e-osvos",
        help="train e-OSVOS",
        description="Train one phase of e-OSVOS on DAVIS, YouTube-VOS, clips of your own, COCO's "
        f"images or several of these, measuring J and F of held-out sequences. {_SHARED}",
    )
    add_eosvos_arguments(eosvos)
    for network, train, weights in (
        (backbone, train_from_arguments, distillation.WEIGHTS),
        (lwl, train_lwl_from_arguments, end_to_end.WEIGHTS),
        (lwl_decoder, train_lwl_decoder_from_arguments, end_to_end.WEIGHTS),
        (eosvos, train_eosvos_from_arguments, training.WEIGHTS),
    ):
        add_device_argument(network)
        network.set_defaults(run=_in_all_processes(train, weights))


def _check_places(arguments: argparse.Namespace, weights: str) -> None:
    """Check that nothing that is read is written over."""
    given = vars(arguments)
    written = [Path(arguments.out, name) for name in ("", CHECKPOINT, *CURVE, weights)]
    check_outputs(
        {"--out": written},
        {option(name): [given[name]] for name in _FILES if name in given},
        {option(name): data_folders(given[name]) for name in _DATA if name in given},
    )


def _in_all_processes(
    train: Callable[[argparse.Namespace, torch.device], bool], weights: str
) -> Callable[[argparse.Namespace], None]:
    def run(arguments: argparse.Namespace) -> None:
        _check_places(arguments, weights)
        with connected(parse_device(arguments.device)) as device:
            done = train(arguments, device)
        if not done:
            raise KeyboardInterrupt

    return run
