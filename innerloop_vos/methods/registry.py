"""The segmentation methods by name, and the options that the commands share."""

import argparse
from collections.abc import Mapping
from typing import Any

import torch

from innerloop.errors import InputError
from innerloop_vos.agame import AGAMEOptions
from innerloop_vos.backbones import BACKBONES
from innerloop_vos.configuration.options import names
from innerloop_vos.configuration.plugins import build
from innerloop_vos.cosnet import COSNetOptions
from innerloop_vos.eosvos import EOSVOSOptions
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl_lite.options import SPEEDS, LWLLiteOptions
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.solvers import SOLVERS
from innerloop_vos.rvos import RVOSOptions
from innerloop_vos.segmenter import Segmenter
from innerloop_vos.unsupervised import UnsupervisedSegmenter

METHODS = {
    "lwl-lite": "innerloop_vos.methods.lwl_lite:build",
    "lwl": "innerloop_vos.methods.lwl:build",
    "ridge": "innerloop_vos.methods.ridge:build",
    "e-osvos": "innerloop_vos.methods.eosvos:build",
    "a-game": "innerloop_vos.methods.agame:build",
    "rvos": "innerloop_vos.methods.rvos:build",
}
"""The methods that come with this package and follow objects from their masks or boxes; see
`innerloop_vos.methods.interface` for others."""

UNSUPERVISED = {
    "cosnet": "innerloop_vos.methods.cosnet:build",
    "rvos": "innerloop_vos.methods.rvos:build_zero_shot",
}
"""Those that find the objects by themselves."""

_DEFAULT, _DEFAULT_UNSUPERVISED = "lwl-lite", "cosnet"

IN_PLACE = {"lwl": "lwl-lite"}
"""Methods whose weights do not ship, and those that take their place where none are given."""

_OPTIONS = {
    "lwl-lite": LWLLiteOptions,
    "lwl": LWLOptions,
    "e-osvos": EOSVOSOptions,
    "a-game": AGAMEOptions,
    "cosnet": COSNetOptions,
    "rvos": RVOSOptions,
}


def add_method_arguments(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Add the options that say which method segments, with which network, on which device.

    Returns:
        The group of `--method`, for options that take its place.
    """
    group = parser.add_argument_group("method")
    # Names are checked in `build_segmenter`, which other callers use too.
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--method",
        help=f"one of: {', '.join(METHODS)} (default: {_DEFAULT}); without masks or boxes, one of: "
        f"{', '.join(UNSUPERVISED)} (default: {_DEFAULT_UNSUPERVISED}); one that an installed "
        "package brings; or a function or class, as package.module:Object",
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
    return which


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
        InputError: a name is unknown, or of a method that is given no objects; the weights do not
            fit, or the device is not there.
    """
    name = arguments.method or _DEFAULT
    if name in UNSUPERVISED.keys() - METHODS.keys():
        raise InputError(
            f"method: {name!r} finds objects by itself, and is given none; those that follow given "
            f"objects are {', '.join(METHODS)}"
        )
    segmenter: Segmenter = _build(name, METHODS, Segmenter, arguments, device)
    return segmenter


def build_unsupervised(
    arguments: argparse.Namespace, device: torch.device | None = None
) -> UnsupervisedSegmenter:
    """Build a segmenter that finds objects by itself; otherwise as `build_segmenter`."""
    name = arguments.method or _DEFAULT_UNSUPERVISED
    if name in METHODS.keys() - UNSUPERVISED.keys():
        raise InputError(
            f"method: {name!r} follows objects that it is given; those that find objects by "
            f"themselves are {', '.join(UNSUPERVISED)}"
        )
    segmenter: UnsupervisedSegmenter = _build(
        name, UNSUPERVISED, UnsupervisedSegmenter, arguments, device
    )
    return segmenter


def _build(
    name: str,
    known: Mapping[str, str],
    wanted: type,
    arguments: argparse.Namespace,
    device: torch.device | None,
) -> Any:
    options = MethodOptions(
        solver=arguments.solver,
        backbone=arguments.backbone,
        speed=arguments.speed,
        steps=arguments.steps,
        online=arguments.online,
        settings=tuple(arguments.option),
    )
    device = device or parse_device(arguments.device)
    return build("method", name, known, wanted, options, arguments.weights, device)


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
