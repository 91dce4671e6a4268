"""The command `train rvos`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass
from typing import Literal

import torch

from innerloop_vos.configuration.arguments import add_options, described, read_fields
from innerloop_vos.rvos.builders import rvos
from innerloop_vos.rvos.training.end_to_end import RVOSTraining
from innerloop_vos.rvos.training.settings import RVOSSettings
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
    recurrence: Literal["S", "T", "ST"] = described(
        "ST", "over objects (S), frames (T) or both, without --init"
    )


def add_rvos_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train rvos`.

    Args:
        parser: receives the options; `train_rvos_from_arguments` takes what it parses.
    """
    add_run_arguments(parser, every=500)
    add_data_arguments(parser)
    add_options(parser.add_argument_group("network"), NetworkOptions)
    add_settings_arguments(parser, RVOSSettings())


def train_rvos_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train as the command line asks.

    Args:
        arguments: what a parser with `add_rvos_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the data, the weights, a setting or the output folder cannot be used.
    """
    settings = read_settings(arguments, RVOSSettings())
    torch.manual_seed(settings.seed)  # the first weights
    # Nothing is pasted here, as the training's scenes are put together later.
    sampler, validation = open_tracks(arguments, settings.frames, settings.fastest, paste=0.0)
    options = read_fields(arguments, NetworkOptions)
    if options.init:
        network = rvos(options.init)
    else:
        network = rvos("imagenet", recurrence=options.recurrence)
    training = RVOSTraining(network, sampler, validation, settings, device)
    return run_from_arguments(training, settings.iterations, arguments)
