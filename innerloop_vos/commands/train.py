"""`innerloop-vos train`: make the weights that ship, or others like them."""

import argparse
from typing import Any

from innerloop_vos.distillation import add_arguments, train_from_arguments
from innerloop_vos.eosvos.train_command import add_eosvos_arguments, train_eosvos_from_arguments
from innerloop_vos.lwl.train_command import add_lwl_arguments, train_lwl_from_arguments
from innerloop_vos.methods import add_device_argument, parse_device


def add_parser(commands: Any) -> None:
    """Declare the command, with a command of its own for everything that can be trained."""
    parser = commands.add_parser("train", help="train a network")
    networks = parser.add_subparsers(title="networks", metavar="NETWORK", required=True)
    backbone = networks.add_parser(
        "backbone",
        help="distill the embedded backbone",
        description="Distill the small backbone from a MobileNetV2 on the frames of DAVIS and on "
        "synthetic images. An interrupted run goes on with --resume.",
    )
    add_arguments(backbone)
    add_device_argument(backbone)
    backbone.set_defaults(run=_backbone)
    lwl = networks.add_parser(
        "lwl",
        help="train LWL",
        description="Train one stage of LWL on DAVIS, YouTube-VOS or both, measuring J and F of "
        "held-out sequences. An interrupted run goes on with --resume.",
    )
    add_lwl_arguments(lwl)
    add_device_argument(lwl)
    lwl.set_defaults(run=_lwl)
    eosvos = networks.add_parser(
        "e-osvos",
        help="train e-OSVOS",
        description="Train one phase of e-OSVOS on DAVIS, YouTube-VOS, clips of your own or "
        "several of these, measuring J and F of held-out sequences. An interrupted run goes on "
        "with --resume.",
    )
    add_eosvos_arguments(eosvos)
    add_device_argument(eosvos)
    eosvos.set_defaults(run=_eosvos)


def _backbone(arguments: argparse.Namespace) -> None:
    if not train_from_arguments(arguments, parse_device(arguments.device)):
        raise KeyboardInterrupt


def _lwl(arguments: argparse.Namespace) -> None:
    if not train_lwl_from_arguments(arguments, parse_device(arguments.device)):
        raise KeyboardInterrupt


def _eosvos(arguments: argparse.Namespace) -> None:
    if not train_eosvos_from_arguments(arguments, parse_device(arguments.device)):
        raise KeyboardInterrupt
