"""The segmentation methods by name, and the options that the commands share."""

import argparse
from collections.abc import Callable
from dataclasses import fields, replace

import torch

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.backbones import BACKBONES, backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.configuration.options import MOST, read_options
from innerloop_vos.eosvos import EOSVOSOptions, EOSVOSSegmenter, load_eosvos
from innerloop_vos.lwl import LWLSegmenter, load_lwl, lwl_small
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.segmenter import default_options
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
    group.add_argument("--method", default="lwl", help="one of: lwl (default), ridge, e-osvos")
    group.add_argument(
        "--solver",
        help=f"inner solver of the target model, one of: {', '.join(SOLVERS)}, the last "
        "takes minutes a frame with lwl (default: conjugate-gradient; that of the weights' "
        "network for lwl)",
    )
    group.add_argument(
        "--backbone",
        help=f"feature extractor of ridge, one of: {', '.join(BACKBONES)}; small (default) ships "
        "with the package, the others' ImageNet weights are downloaded by torchvision",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of ridge's backbone from a .safetensors or .pth file instead; the file of "
        "lwl (default: lwl_small, which ships) or of e-osvos, which needs it (train, convert)",
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
        help="a further setting of lwl or e-osvos, such as update_interval=5; may be given several "
        f"times. Of lwl: {_names(LWLOptions)}; of e-osvos: {_names(EOSVOSOptions)}",
    )
    add_device_argument(group)


def add_device_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option that says where to compute."""
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; auto (default) takes a GPU if any"
    )


def _names(options: type[LWLOptions] | type[EOSVOSOptions]) -> str:
    return ", ".join(field.name for field in fields(options))


def build_segmenter(arguments: argparse.Namespace) -> Segmenter:
    """Build the segmenter that the options of `add_method_arguments` ask for.

    Raises:
        InputError: a name is unknown, the weights do not fit, or the device is not there.
    """
    if arguments.method not in METHODS:
        raise InputError(f"method: {arguments.method!r} is unknown; there is {', '.join(METHODS)}")
    return METHODS[arguments.method](arguments)


def _solver(name: str) -> il.Solver:
    if name not in SOLVERS:
        raise InputError(f"solver: {name!r} is unknown; there are {', '.join(SOLVERS)}")
    return SOLVERS[name]()


def _ridge(arguments: argparse.Namespace) -> Segmenter:
    if arguments.option:
        raise InputError(f"option: {arguments.option[0]!r}; ridge has no further settings")
    options = RidgeOptions(solver=_solver(arguments.solver or "conjugate-gradient"))
    network = backbone(arguments.backbone or "small", arguments.weights or "default")
    fold_norms(network)  # a quarter faster
    return RidgeSegmenter(network, options, parse_device(arguments.device))


def _lwl(arguments: argparse.Namespace) -> Segmenter:
    _refuse_backbone(arguments)
    network = load_lwl(arguments.weights) if arguments.weights else lwl_small("default")
    if arguments.solver:
        network.target_model.solver = _solver(arguments.solver)
    # Videos that start from a mask or from a box have settings of their own.
    options, box_options = (
        read_options(arguments.option, default_options(network, from_box))
        for from_box in (False, True)
    )
    return LWLSegmenter(network, options, box_options, parse_device(arguments.device))


def _e_osvos(arguments: argparse.Namespace) -> Segmenter:
    _refuse_backbone(arguments)
    if not arguments.weights:
        raise InputError(
            "weights: e-osvos needs a file of weights; 'innerloop-vos train e-osvos' makes one, "
            "and 'innerloop-vos convert e-osvos' does from a released checkpoint"
        )
    network, rates = load_eosvos(arguments.weights)
    if arguments.solver:
        raise InputError(f"solver: {arguments.solver!r}; e-osvos has its own, gradient descent")
    if not 0 <= arguments.steps <= MOST:
        least = "at least 0" if arguments.steps < 0 else f"at most {MOST}"
        raise InputError(f"steps: {str(arguments.steps)[:50]}, should be {least}")
    options = EOSVOSOptions(steps=arguments.steps)
    if not arguments.online:
        options = replace(options, online_interval=None)
    options = read_options(arguments.option, options)
    return EOSVOSSegmenter(network, rates, options, parse_device(arguments.device))


def _refuse_backbone(arguments: argparse.Namespace) -> None:
    if arguments.backbone:
        raise InputError(
            f"backbone: {arguments.backbone!r}; that of {arguments.method} comes with its weights, "
            "only ridge (--method ridge) takes another"
        )


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


METHODS: dict[str, Callable[[argparse.Namespace], Segmenter]] = {
    "ridge": _ridge,
    "lwl": _lwl,
    "e-osvos": _e_osvos,
}
