"""`innerloop-vos convert`: weights of other systems in the files of this one."""

import argparse
from typing import Any

from innerloop_vos.lwl import load_released, save_lwl


def add_parser(commands: Any) -> None:
    """Declare the command, with a command of its own for every method."""
    parser = commands.add_parser("convert", help="convert weights of a released system")
    methods = parser.add_subparsers(title="methods", metavar="METHOD", required=True)
    lwl = methods.add_parser(
        "lwl",
        help="Learning What to Learn, for masks or for boxes",
        description="Convert a checkpoint of the released LWL system. The code that is pickled "
        "beside the weights is not run.",
    )
    lwl.add_argument("checkpoint", metavar="CHECKPOINT", help="file with weights under 'net'")
    lwl.add_argument("out", metavar="OUT.safetensors", help="file for --method lwl --weights")
    lwl.set_defaults(run=_lwl)


def _lwl(arguments: argparse.Namespace) -> None:
    network, left = load_released(arguments.checkpoint)
    save_lwl(network, arguments.out)
    count = sum(value.numel() for value in network.state_dict().values())
    start = "masks" if network.box_label_encoder is None else "masks and boxes"
    print(f"{len(network.state_dict())} tensors, {count} numbers, for {start}: {arguments.out}")
    if left:
        print(f"no place for {len(left)} tensors: {', '.join(left)}")
