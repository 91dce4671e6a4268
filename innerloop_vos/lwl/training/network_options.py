"""The options that say which LWL network a training starts from."""

import argparse
from collections.abc import Callable
from pathlib import Path

from innerloop.errors import InputError
from innerloop_vos.backbones import backbone
from innerloop_vos.configuration.arguments import option
from innerloop_vos.lwl.builders import LIGHT_SIZES
from innerloop_vos.lwl.network import DECODER_LEVELS, LWL
from innerloop_vos.lwl.training.growth import with_colours, with_correction, with_decoder_levels
from innerloop_vos.lwl.weights import load_lwl

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
WIDEST = 4096
_CHANGES: dict[str, Callable[..., LWL]] = {
    "decoder_levels": with_decoder_levels,
    "correction": with_correction,
    "colours": with_colours,
}
"""What can be another than in `--init`."""


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
    group.add_argument(
        "--colours",
        type=int,
        help="features of colour for a target model at stride 8 (default: those of --init, or 0)",
    )


def network_from_arguments(arguments: argparse.Namespace) -> LWL:
    """Load the network that the command line names, or build it.

    Args:
        arguments: What a parser with `add_network_arguments` parsed.

    Raises:
        InputError: A file or a size does not fit.
    """
    _check(arguments)
    network = _build(arguments) if arguments.init is None else load_lwl(Path(arguments.init))
    for name, change in _CHANGES.items():
        value = getattr(arguments, name)
        if value is not None:
            network = change(network, value)
    return network


def _check(arguments: argparse.Namespace) -> None:
    for name in ("features", "outputs"):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= WIDEST:
            raise InputError(f"{option(name)} should be from 1 to {WIDEST}, got {str(value)[:50]}")
    if arguments.kernel % 2 == 0 or not 1 <= arguments.kernel <= 15:
        raise InputError(f"--kernel should be odd and positive, got {str(arguments.kernel)[:50]}")
    for name, count in (("label_widths", 3), ("decoder_widths", 4)):
        widths = getattr(arguments, name)
        if len(widths) != count or min(widths) < 2 or max(widths) > 1024:
            raise InputError(f"{option(name)} should be {count} numbers from 2 to 1024")


def _build(arguments: argparse.Namespace) -> LWL:
    given = {name: getattr(arguments, name) for name in _SIZES}
    sizes = LIGHT_SIZES | {name: value for name, value in given.items() if value is not None}
    network = LWL(backbone(arguments.backbone, arguments.backbone_weights), **sizes)
    if arguments.init_heads:
        _take_heads(network, load_lwl(arguments.init_heads))
    return network


def _take_heads(network: LWL, other: LWL) -> None:
    own = network.state_dict()
    taken = {
        name: value
        for name, value in other.state_dict().items()
        if not name.startswith("feature_extractor.")
        and name in own
        and value.shape == own[name].shape
    }
    network.load_state_dict(taken, strict=False)
