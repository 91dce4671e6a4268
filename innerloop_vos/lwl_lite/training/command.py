"""The command `train lwl-lite`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass

import torch

from innerloop_vos.configuration.arguments import add_options, described, read_fields
from innerloop_vos.lwl_lite.builders import lwl_lite
from innerloop_vos.lwl_lite.training.end_to_end import LWLLiteTraining
from innerloop_vos.lwl_lite.training.settings import LWLLiteSettings
from innerloop_vos.lwl_lite.weights import load_lwl_lite
from innerloop_vos.training.data import add_data_arguments, open_tracks
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
    features: int = described(96, "channels of the target features, without --init")
    outputs: int = described(16, "labels, without --init")


def add_lwl_lite_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train lwl-lite`.

    Args:
        parser: receives the options; `train_lwl_lite_from_arguments` takes what it parses.
    """
    add_run_arguments(parser, every=500)
    add_data_arguments(parser)
    add_options(parser.add_argument_group("network"), NetworkOptions)
    add_settings_arguments(parser, LWLLiteSettings())


def train_lwl_lite_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train as the command line asks.

    Args:
        arguments: what a parser with `add_lwl_lite_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the data, the weights, a setting or the output folder cannot be used.
    """
    settings = read_settings(arguments, LWLLiteSettings())
    torch.manual_seed(settings.seed)  # the first weights
    sampler, validation = open_tracks(arguments, settings.frames, settings.fastest, settings.paste)
    options = read_fields(arguments, NetworkOptions)
    if options.init:
        network = load_lwl_lite(options.init)
    else:
        network = lwl_lite("imagenet", features=options.features, outputs=options.outputs)
    training = LWLLiteTraining(
        network, sampler, validation, settings, fresh=options.init is None, device=device
    )
    return run_from_arguments(training, settings.iterations, arguments)
