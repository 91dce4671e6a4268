"""The command `train lwl-decoder`: its options, and the training that they describe."""

import argparse

import torch

from innerloop_vos.lwl.training.decoder import DecoderTraining, DecoderTrainingSettings
from innerloop_vos.lwl.training.network_options import add_network_arguments, network_from_arguments
from innerloop_vos.training.data import add_data_arguments, open_clips
from innerloop_vos.training.options import (
    add_run_arguments,
    add_settings_arguments,
    read_settings,
    run_from_arguments,
)


def add_lwl_decoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train lwl-decoder`.

    Args:
        parser: receives the options; `train_lwl_decoder_from_arguments` takes what it parses.
    """
    add_run_arguments(parser, every=500)
    add_data_arguments(parser)
    add_network_arguments(parser)
    add_settings_arguments(parser, DecoderTrainingSettings())


def train_lwl_decoder_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train the decoder as the command line asks.

    Args:
        arguments: what a parser with `add_lwl_decoder_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the data, the weights, a setting or the output folder cannot be used.
    """
    settings = read_settings(arguments, DecoderTrainingSettings())
    torch.manual_seed(settings.seed)  # the first weights
    clips, validation = open_clips(arguments)
    network = network_from_arguments(arguments)
    training = DecoderTraining(network, clips, validation, settings, device)
    return run_from_arguments(training, settings.iterations, arguments)
