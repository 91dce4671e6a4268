"""The options that say which LWL network a training starts from."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from innerloop.errors import InputError
from innerloop_vos.backbones import backbone
from innerloop_vos.configuration.arguments import add_options, described, option, read_fields
from innerloop_vos.lwl.builders import LIGHT_SIZES
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.presets import of_small
from innerloop_vos.lwl.training.growth import with_colours
from innerloop_vos.lwl.weights import load_lwl
from innerloop_vos.weight_files import fit_same

_SIZES = (
    "stride",
    "features",
    "outputs",
    "label_widths",
    "decoder_widths",
    "mask_label",
)
WIDEST = 4096


@dataclass(frozen=True)
class NetworkOptions:
    """Options that say which LWL network a training starts from."""

    init: str | None = described(
        None, "weights of LWL to start from, instead of what follows", metavar="FILE"
    )
    init_heads: str | None = described(
        None,
        "weights of LWL on another backbone, of which all that fits is taken but the backbone",
        metavar="FILE",
    )
    backbone: Literal["small", "mobilenet_v2"] = described("small", "feature extractor")
    backbone_weights: str = described(
        "default",
        "of another backbone; 'default': those that ship or are downloaded",
        metavar="FILE",
    )
    stride: Literal[8, 16] = described(
        LIGHT_SIZES["stride"],
        "of the target model: one level at 16 as released, or several joined at 8",
    )
    features: int | None = described(
        None, "C (default: 512 at stride 16, all that are joined at 8)"
    )
    outputs: int = described(LIGHT_SIZES["outputs"], "D")
    label_widths: tuple[int, ...] = described((16, 32, 64), "of the label encoder")
    decoder_widths: tuple[int, ...] = described(
        LIGHT_SIZES["decoder_widths"], "coarse to fine; released: 256,128,128,64"
    )
    mask_label: bool = described(
        LIGHT_SIZES["mask_label"],
        "let the first target score predict the mask, and the decoder, which then sees the image "
        "alone, correct it",
    )
    colours: int | None = described(
        None,
        "colour features for a target model at stride 8 (default: those of --init, or 0)",
    )


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `NetworkOptions`.

    Args:
        parser: receives the options; `network_from_arguments` takes what it parses.
    """
    add_options(parser.add_argument_group("network"), NetworkOptions)


def network_from_arguments(arguments: argparse.Namespace) -> LWL:
    """Load the network that the command line names, or build it.

    Args:
        arguments: what a parser with `add_network_arguments` parsed.

    Raises:
        InputError: A file or a size does not fit.
    """
    options = read_fields(arguments, NetworkOptions)
    _check(options)
    network = _build(options) if options.init is None else load_lwl(Path(options.init))
    if options.colours is not None:
        network = with_colours(network, options.colours)
    return network


def _check(options: NetworkOptions) -> None:
    for name in ("features", "outputs"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= WIDEST:
            raise InputError(f"{option(name)} should be from 1 to {WIDEST}, got {str(value)[:50]}")
    for name, count in (("label_widths", 3), ("decoder_widths", 4)):
        widths = getattr(options, name)
        if len(widths) != count or min(widths) < 2 or max(widths) > 1024:
            raise InputError(f"{option(name)} should be {count} numbers from 2 to 1024")


def _build(options: NetworkOptions) -> LWL:
    given = {name: getattr(options, name) for name in _SIZES}
    sizes = LIGHT_SIZES | {name: value for name, value in given.items() if value is not None}
    network = LWL(backbone(options.backbone, options.backbone_weights), **sizes)
    if options.backbone == "small":
        network.preset = of_small(network.sizes)
    if options.init_heads:
        _take_heads(network, load_lwl(options.init_heads))
    return network


def _take_heads(network: LWL, other: LWL) -> None:
    # Not the features, whose network may be another.
    state = other.state_dict().items()
    fit_same(network, {k: v for k, v in state if not k.startswith("feature_extractor.")})
