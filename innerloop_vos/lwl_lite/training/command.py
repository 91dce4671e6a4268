"""The command `train lwl-lite`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass

import torch

from innerloop_vos.configuration.arguments import described, read_fields
from innerloop_vos.lwl_lite.builders import lwl_lite
from innerloop_vos.lwl_lite.training.end_to_end import LWLLiteTraining
from innerloop_vos.lwl_lite.training.settings import LWLLiteSettings
from innerloop_vos.training.data import open_tracks
from innerloop_vos.training.descent_options import NetworkOptions, add_descent_arguments
from innerloop_vos.training.options import read_settings, run_from_arguments


@dataclass(frozen=True)
class LWLLiteNetwork(NetworkOptions):
    """Options that say which network a training starts from."""

    features: int = described(96, "channels of the target features, without --init")
    outputs: int = described(16, "labels, without --init")


def add_lwl_lite_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train lwl-lite`.

    Args:
        parser: receives the options; `train_lwl_lite_from_arguments` takes what it parses.
    """
    add_descent_arguments(parser, LWLLiteNetwork, LWLLiteSettings())


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
    options = read_fields(arguments, LWLLiteNetwork)
    sampler, validation = open_tracks(arguments, settings.frames, settings.fastest, settings.paste)
    training = LWLLiteTraining(
        options.network(lwl_lite),
        sampler,
        validation,
        settings,
        fresh=options.init is None,
        device=device,
    )
    return run_from_arguments(training, settings.iterations, arguments)
