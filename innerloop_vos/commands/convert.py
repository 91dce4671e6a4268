"""`innerloop-vos convert`: weights of other systems in the files of this one."""

import argparse

from torch import nn

from innerloop_vos import eosvos
from innerloop_vos.commands.outputs import check_outputs
from innerloop_vos.lwl import load_released, save_lwl


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare a command of its own for every method."""
    methods = parser.add_subparsers(
        title="methods", metavar="METHOD", required=True, parser_class=argparse.ArgumentParser
    )
    lwl = methods.add_parser(
        "lwl",
        help="Learning What to Learn, for masks or for boxes",
        description="Convert a checkpoint of the released LWL system. The code that is pickled "
        "beside the weights is not run.",
    )
    lwl.add_argument("checkpoint", metavar="CHECKPOINT", help="file with weights under 'net'")
    lwl.add_argument("out", metavar="OUT.safetensors", help="file for --method lwl --weights")
    lwl.set_defaults(run=_lwl)
    e_osvos = methods.add_parser(
        "e-osvos",
        help="e-OSVOS: a meta-learned initialisation with learning rates",
        description="Convert a checkpoint of the released e-OSVOS system. The code that is pickled "
        "beside the weights is not run.",
    )
    e_osvos.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="file with the meta-learned state"
    )
    e_osvos.add_argument(
        "out", metavar="OUT.safetensors", help="file for --method e-osvos --weights"
    )
    e_osvos.set_defaults(run=_e_osvos)


def _lwl(arguments: argparse.Namespace) -> None:
    _check_places(arguments)
    network, left = load_released(arguments.checkpoint)
    save_lwl(network, arguments.out)
    start = "masks" if network.box_label_encoder is None else "masks and boxes"
    print(f"{_counts(network)}, for {start}: {arguments.out}")
    _report_left(left)


def _e_osvos(arguments: argparse.Namespace) -> None:
    _check_places(arguments)
    network, rates, left = eosvos.load_released(arguments.checkpoint)
    eosvos.save_eosvos(network, rates, arguments.out)
    print(f"{_counts(network)}, and {_counts(rates)} that are rates: {arguments.out}")
    _report_left(left)


def _check_places(arguments: argparse.Namespace) -> None:
    check_outputs({"OUT.safetensors": [arguments.out]}, {"CHECKPOINT": [arguments.checkpoint]})


def _counts(module: nn.Module) -> str:
    state = module.state_dict()
    return f"{len(state)} tensors, {sum(value.numel() for value in state.values())} numbers"


def _report_left(names: list[str]) -> None:
    if names:
        shown = (name if name.isprintable() else repr(name) for name in names)
        print(f"no place for {len(names)} tensors: {', '.join(shown)}")
