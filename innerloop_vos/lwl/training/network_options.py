"""The options that say which LWL network a training starts from."""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from innerloop_vos.backbones import backbone
from innerloop_vos.errors import InputError
from innerloop_vos.lwl.builders import LIGHT_SIZES
from innerloop_vos.lwl.network import DECODER_LEVELS, LWL
from innerloop_vos.lwl.weights import load_lwl
from innerloop_vos.training.options import option

_BACKBONES = ("small", "mobilenet_v2")
_SIZES = (
    "stride",
    "features",
    "outputs",
    "kernel",
    "label_widths",
    "decoder_widths",
    "decoder_levels",
    "mask_label",
)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: Receives them; `network_from_arguments` takes what it parses.
    """
    group = parser.add_argument_group("network")
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
        help="coarse to fine (default: 64,48,32,16; released: 256,128,128,64)",
    )
    group.add_argument(
        "--decoder-levels",
        choices=DECODER_LEVELS,
        help="what the decoder sees besides the scores (default: that of --init, to which 'both' "
        "adds the other, or image; released: backbone)",
    )
    group.add_argument(
        "--mask-label",
        action=argparse.BooleanOptionalAction,
        default=LIGHT_SIZES["mask_label"],
        help="let the first target score predict the mask, and the decoder correct it",
    )
    group.add_argument(
        "--correction",
        type=float,
        help="greatest correction of a logit of that mask (default: that of --init, or 2)",
    )


def network_from_arguments(arguments: argparse.Namespace) -> LWL:
    """Load the network that the command line names, or build it.

    Args:
        arguments: What a parser with `add_network_arguments` parsed.

    Raises:
        InputError: A file or a size does not fit.
    """
    network = _build(arguments) if arguments.init is None else load_lwl(Path(arguments.init))
    if arguments.decoder_levels not in (None, network.sizes["decoder_levels"]):
        network = _with_decoder_levels(network, arguments.decoder_levels)
    if arguments.correction is not None:
        network = _with_correction(network, arguments.correction)
    return network


def _build(arguments: argparse.Namespace) -> LWL:
    for name in ("features", "outputs"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"{option(name)} should be positive, got {value}")
    if arguments.kernel < 1 or arguments.kernel % 2 == 0:
        raise InputError(f"--kernel should be odd and positive, got {arguments.kernel}")
    for name, count in (("label_widths", 3), ("decoder_widths", 4)):
        widths = getattr(arguments, name)
        if len(widths) != count or min(widths) < 2:
            raise InputError(f"{option(name)} should be {count} numbers from 2, got {widths}")
    given = {name: getattr(arguments, name) for name in _SIZES}
    sizes = LIGHT_SIZES | {name: value for name, value in given.items() if value is not None}
    network = LWL(backbone(arguments.backbone, arguments.backbone_weights), **sizes)
    if arguments.init_heads:
        _take_heads(network, load_lwl(arguments.init_heads))
    return network


def with_box_encoder(network: LWL) -> LWL:
    """Return the network itself, or with a new box encoder if it has none."""
    if network.box_label_encoder is not None:
        return network
    return _rebuilt(network, box=True)


def _with_decoder_levels(network: LWL, levels: str) -> LWL:
    """The network with a decoder that sees more, from which it has yet to learn anything."""
    known = network.sizes["decoder_levels"]
    if levels != "both":
        raise InputError(
            f"--decoder-levels: {levels}, but the decoder of --init sees the {known}: should be "
            f"{known} or both"
        )
    changed = LWL(network.feature_extractor, **{**network.sizes, "decoder_levels": levels})
    state = network.state_dict()
    for name, encoder in changed.decoder.TSE.items():
        key = f"decoder.TSE.{name}.reduce.0.weight"
        added = encoder.get_parameter("reduce.0.weight").shape[1] - state[key].shape[1]
        sides = (0, added) if known == "image" else (added, 0)  # the image comes first
        state[key] = F.pad(state[key], (0, 0, 0, 0, *sides))
    changed.load_state_dict(state)
    return changed


def _with_correction(network: LWL, greatest: float) -> LWL:
    """The network with another bound of its corrections, of which small ones stay what they are."""
    if not greatest > 0:
        raise InputError(f"--correction should be positive, got {greatest}")
    if not network.decoder.corrects:
        raise InputError("--correction: this network's decoder corrects no mask; see --mask-label")
    changed = _rebuilt(network, correction=greatest)
    with torch.no_grad():
        for parameter in changed.decoder.project.get_submodule("conv3").parameters():
            parameter.mul_(network.sizes["correction"] / greatest)
    return changed


def _rebuilt(network: LWL, **sizes: Any) -> LWL:
    """A network of other sizes with all the weights that it has too."""
    rebuilt = LWL(network.feature_extractor, **{**network.sizes, **sizes})
    rebuilt.load_state_dict(network.state_dict(), strict=False)
    return rebuilt


def _take_heads(network: LWL, other: LWL) -> None:
    own = network.state_dict()
    taken = {
        name: value
        for name, value in other.state_dict().items()
        if not name.startswith("feature_extractor.") and value.shape == own[name].shape
    }
    network.load_state_dict(taken, strict=False)
