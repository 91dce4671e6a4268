"""The command `train cosnet`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass

import torch

from innerloop_vos.configuration.arguments import add_options, described, read_fields
from innerloop_vos.cosnet.builders import cosnet
from innerloop_vos.cosnet.model.network import FORMS
from innerloop_vos.cosnet.training.settings import COSNetSettings
from innerloop_vos.cosnet.training.siamese import COSNetTraining
from innerloop_vos.cosnet.weights import load_cosnet
from innerloop_vos.training.data import add_data_arguments, open_foreground
from innerloop_vos.training.options import (
    add_run_arguments,
    add_settings_arguments,
    read_settings,
    run_from_arguments,
)


@dataclass(frozen=True)
class NetworkOptions:
    """Options that say which network a training starts from."""

    init: str | None = described(
        None, "weights to start from, instead of ImageNet's in the backbone", metavar="FILE"
    )
    co_attention: str = described(
        "symmetric", f"its form, without --init, one of: {', '.join(FORMS)}"
    )
    channels: int = described(128, "of the features that are compared, without --init")


def add_cosnet_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train cosnet`.

    Args:
        parser: receives the options; `train_cosnet_from_arguments` takes what it parses.
    """
    add_run_arguments(parser, every=500)
    add_data_arguments(parser)
    add_options(parser.add_argument_group("network"), NetworkOptions)
    add_settings_arguments(parser, COSNetSettings())


def train_cosnet_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train as the command line asks.

    Args:
        arguments: what a parser with `add_cosnet_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the data, the weights, a setting or the output folder cannot be used.
    """
    settings = read_settings(arguments, COSNetSettings())
    torch.manual_seed(settings.seed)  # the first weights
    videos, images, validation = open_foreground(arguments, 2)
    options = read_fields(arguments, NetworkOptions)
    if options.init:
        network = load_cosnet(options.init)
    else:
        network = cosnet("imagenet", co_attention=options.co_attention, channels=options.channels)
    training = COSNetTraining(network, videos, images, validation, settings, device)
    return run_from_arguments(training, settings.iterations, arguments)
