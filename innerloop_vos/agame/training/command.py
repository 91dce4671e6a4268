"""The command `train a-game`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass

import torch

from innerloop.errors import InputError
from innerloop_vos.agame.builders import agame
from innerloop_vos.agame.training.end_to_end import AGAMETraining
from innerloop_vos.agame.training.settings import AGAMESettings
from innerloop_vos.agame.weights import load_agame
from innerloop_vos.configuration.arguments import add_options, described, read_fields
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
    features: int = described(64, "channels of the appearance model's features, without --init")
    components: int = described(
        4, "Gaussians of the appearance model, 4, 2 or 0 for none, without --init"
    )
    propagation: bool = described(True, "propagate the mask of the frame before; without --init")


def add_agame_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train a-game`.

    Args:
        parser: receives the options; `train_agame_from_arguments` takes what it parses.
    """
    add_run_arguments(parser, every=500)
    add_data_arguments(parser)
    add_options(parser.add_argument_group("network"), NetworkOptions)
    add_settings_arguments(parser, AGAMESettings())


def train_agame_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train as the command line asks.

    Args:
        arguments: what a parser with `add_agame_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the data, the weights, a setting or the output folder cannot be used.
    """
    settings = read_settings(arguments, AGAMESettings())
    torch.manual_seed(settings.seed)  # the first weights
    options = read_fields(arguments, NetworkOptions)
    if options.components not in (0, 2, 4) or not (options.components or options.propagation):
        raise InputError(
            f"--components should be 4, 2 or, with propagation, 0, got {options.components}"
        )
    if not 1 <= options.features <= 1024:
        raise InputError(f"--features should be from 1 to 1024, got {options.features}")
    sampler, validation = open_tracks(arguments, settings.frames, settings.fastest, settings.paste)
    if options.init:
        network = load_agame(options.init)
    else:
        network = agame(
            "imagenet",
            features=options.features,
            components=options.components,
            propagation=options.propagation,
        )
    training = AGAMETraining(
        network, sampler, validation, settings, fresh=options.init is None, device=device
    )
    return run_from_arguments(training, settings.iterations, arguments)
