"""The command `train cosnet`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass

import torch

from innerloop_vos.configuration.arguments import described, read_fields
from innerloop_vos.cosnet.builders import cosnet
from innerloop_vos.cosnet.model.network import FORMS
from innerloop_vos.cosnet.training.settings import COSNetSettings
from innerloop_vos.cosnet.training.siamese import COSNetTraining
from innerloop_vos.training.data import open_foreground
from innerloop_vos.training.descent_options import NetworkOptions, add_descent_arguments
from innerloop_vos.training.options import read_settings, run_from_arguments


@dataclass(frozen=True)
class COSNetNetwork(NetworkOptions):
    """Options that say which network a training starts from."""

    co_attention: str = described(
        "symmetric", f"its form, without --init, one of: {', '.join(FORMS)}"
    )
    channels: int = described(128, "of the features that are compared, without --init")


def add_cosnet_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train cosnet`.

    Args:
        parser: receives the options; `train_cosnet_from_arguments` takes what it parses.
    """
    add_descent_arguments(parser, COSNetNetwork, COSNetSettings())


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
    network = read_fields(arguments, COSNetNetwork).network(cosnet)
    videos, images, validation = open_foreground(arguments, 2)
    training = COSNetTraining(network, videos, images, validation, settings, device)
    return run_from_arguments(training, settings.iterations, arguments)
