"""The command `train lwl`: its options, and the training that they describe."""

import argparse

import torch

from innerloop.errors import InputError
from innerloop_vos.lwl.training.end_to_end import LWLTraining
from innerloop_vos.lwl.training.network_options import add_network_arguments, network_from_arguments
from innerloop_vos.lwl.training.stages import STAGES
from innerloop_vos.training.data import add_data_arguments, open_data
from innerloop_vos.training.options import (
    add_run_arguments,
    add_settings_arguments,
    read_settings,
    run_from_arguments,
)


def add_lwl_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train lwl`.

    Args:
        parser: receives the options; `train_lwl_from_arguments` takes what it parses.
    """
    parser.add_argument(
        "--stage",
        required=True,
        choices=STAGES,
        help="1: all but the backbone; 2: all, from --init; box: the box encoder, from --init",
    )
    add_run_arguments(parser, every=1000)
    add_data_arguments(parser)
    add_network_arguments(parser)
    add_settings_arguments(parser, *STAGES.values(), names=f"stages {' | '.join(STAGES)}")


def train_lwl_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train a stage as the command line asks.

    Args:
        arguments: what a parser with `add_lwl_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the data, the weights, a setting or the output folder cannot be used.
    """
    settings = read_settings(arguments, STAGES[arguments.stage])
    if arguments.init is None and arguments.stage != "1":
        raise InputError(f"--init: stage {arguments.stage} needs the weights of the one before")
    torch.manual_seed(settings.seed)  # the first weights
    length = 1 + settings.test_frames
    sampler, validation = open_data(arguments, length, settings.window, settings.paste)
    network = network_from_arguments(arguments)
    if arguments.stage == "box" and network.box_label_encoder is None:
        network.add_box_encoder()
    training = LWLTraining(network, sampler, validation, settings, device)
    return run_from_arguments(training, settings.iterations, arguments)
