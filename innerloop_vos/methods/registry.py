"""The segmentation methods by name, and the options that the commands share."""

import argparse

import torch

from innerloop.errors import InputError
from innerloop_vos.agame import AGAMEOptions
from innerloop_vos.backbones import BACKBONES
from innerloop_vos.configuration.options import names
from innerloop_vos.configuration.plugins import build
from innerloop_vos.eosvos import EOSVOSOptions
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl_lite.options import SPEEDS, LWLLiteOptions
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.solvers import SOLVERS
from innerloop_vos.rvos import RVOSOptions
from innerloop_vos.segmenter import Segmenter

METHODS = {
    "lwl-lite": "innerloop_vos.methods.lwl_lite:build",
    "lwl": "innerloop_vos.methods.lwl:build",
    "ridge": "innerloop_vos.methods.ridge:build",
    "e-osvos": "innerloop_vos.methods.eosvos:build",
    "a-game": "innerloop_vos.methods.agame:build",
    "rvos": "innerloop_vos.methods.rvos:build",
}
"""The methods that come with this package; see `innerloop_vos.methods.interface` for others."""

_OPTIONS = {
    "lwl-lite": LWLLiteOptions,
    "lwl": LWLOptions,
    "e-osvos": EOSVOSOptions,
    "a-game": AGAMEOptions,
    "rvos": RVOSOptions,
}


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which method segments, with which network, on which device."""
    group = parser.add_argument_group("method")
    # Names are checked in `build_segmenter`, which other callers use too.
    group.add_argument(
        "--method",
        default="lwl-lite",
        help=f"one of: {', '.join(METHODS)} (default: %(default)s); one that an installed package "
        "brings; or a function or class, as package.module:Object",
    )
    group.add_argument(
        "--solver",
        help=f"inner solver of the target model, one of: {', '.join(SOLVERS)}, the last "
        "takes minutes a frame with lwl (default: exact; of lwl, steepest-descent)",
    )
    group.add_argument(
        "--backbone",
        help=f"feature extractor of ridge, one of: {', '.join(BACKBONES)}, or another as for "
        "--method; small ships with the package, efficientnet_lite0 (default) comes with the extra "
        "vos, the ImageNet weights of the last two are downloaded by torchvision",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="the file of the method's networks (default: that which ships); lwl needs it (train, "
        "convert); weights of ridge's backbone from a .safetensors or .pth file instead",
    )
    group.add_argument(
        "--speed",
        help=f"preset of lwl-lite, one of: {', '.join(SPEEDS)} (default: best)",
    )
    group.add_argument(
        "--steps",
        type=int,
        default=EOSVOSOptions.steps,
        metavar="T",
        help="fine-tuning steps of e-osvos on an object's first frame; 50 or 100 take longer and "
        "do better (default: %(default)s)",
    )
    group.add_argument(
        "--no-online-adaptation",
        dest="online",
        action="store_false",
        help="do not fine-tune e-osvos on later frames: faster, and worse in long videos",
    )
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further setting of the method, such as min_area=50; may be given several times. "
        + "; ".join(f"Of {name}: {', '.join(names(kind))}" for name, kind in _OPTIONS.items()),
    )
    add_device_argument(group)


def add_device_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option that says where to compute."""
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; auto (default) takes a GPU if any"
    )


def build_segmenter(arguments: argparse.Namespace, device: torch.device | None = None) -> Segmenter:
    """Build the segmenter that the options of `add_method_arguments` ask for.

    Args:
        arguments: what a parser with these options parsed.
        device: where to compute. Default: as they say.

    Raises:
        InputError: a name is unknown, the weights do not fit, or the device is not there.
    """
    options = MethodOptions(
        solver=arguments.solver,
        backbone=arguments.backbone,
        speed=arguments.speed,
        steps=arguments.steps,
        online=arguments.online,
        settings=tuple(arguments.option),
    )
    device = device or parse_device(arguments.device)
    segmenter: Segmenter = build(
        "method", arguments.method, METHODS, Segmenter, options, arguments.weights, device
    )
    return segmenter


def parse_device(name: str) -> torch.device:
    """Turn the value of `--device` into a device that is there.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # which the device "meta" cannot
    except (RuntimeError, AssertionError, ImportError) as error:
        reason, _, _ = str(error).partition("\n")
        raise InputError(f"device: {name!r} cannot be used: {reason}") from error
    return device
