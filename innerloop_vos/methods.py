"""The segmentation methods by name, and the options that the commands share."""

import argparse
from collections.abc import Callable

import torch

import innerloop as il
from innerloop_vos.backbones import BACKBONES, backbone
from innerloop_vos.errors import InputError
from innerloop_vos.ridge import RidgeOptions, RidgeSegmenter
from innerloop_vos.segmenter import Segmenter

SOLVERS: dict[str, Callable[[], il.Solver]] = {
    "conjugate-gradient": il.ConjugateGradient,
    "steepest-descent": il.SteepestDescent,
    "exact": il.Ridge,
}


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which method segments, with which network, on which device."""
    group = parser.add_argument_group("method")
    # Names are checked in `build_segmenter`, which other callers use too.
    group.add_argument("--method", default="ridge", help="one of: ridge (default)")
    group.add_argument(
        "--solver",
        default="conjugate-gradient",
        help=f"inner solver of the target model, one of: {', '.join(SOLVERS)} "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--backbone",
        default="small",
        help=f"feature extractor, one of: {', '.join(BACKBONES)}; small ships with the package, "
        "the others' ImageNet weights are downloaded by torchvision (default: %(default)s)",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of the backbone from a .safetensors or .pth file instead",
    )
    add_device_argument(group)


def add_device_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option that says where to compute."""
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; auto (default) takes a GPU if any"
    )


def build_segmenter(arguments: argparse.Namespace) -> Segmenter:
    """Build the segmenter that the options of `add_method_arguments` ask for.

    Raises:
        InputError: a name is unknown, the weights do not fit, or the device is not there.
    """
    if arguments.method not in METHODS:
        raise InputError(f"method: {arguments.method!r} is unknown; there is {', '.join(METHODS)}")
    return METHODS[arguments.method](arguments)


def _ridge(arguments: argparse.Namespace) -> Segmenter:
    if arguments.solver not in SOLVERS:
        raise InputError(f"solver: {arguments.solver!r} is unknown; there are {', '.join(SOLVERS)}")
    network = backbone(arguments.backbone, arguments.weights or "default")
    options = RidgeOptions(solver=SOLVERS[arguments.solver]())
    return RidgeSegmenter(network, options, parse_device(arguments.device))


def parse_device(name: str) -> torch.device:
    """Turn the value of `--device` into a device that is there.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: {name!r} cannot be used: {error}") from error
    return device


METHODS: dict[str, Callable[[argparse.Namespace], Segmenter]] = {"ridge": _ridge}
