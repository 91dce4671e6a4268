"""The command `train rvos`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass
from typing import Literal

import torch

from innerloop_vos.configuration.arguments import described, read_fields
from innerloop_vos.rvos.builders import rvos
from innerloop_vos.rvos.training.end_to_end import RVOSTraining
from innerloop_vos.rvos.training.settings import RVOSSettings
from innerloop_vos.training.data import open_tracks
from innerloop_vos.training.descent_options import NetworkOptions, add_descent_arguments
from innerloop_vos.training.options import read_settings, run_from_arguments


@dataclass(frozen=True)
class RVOSNetwork(NetworkOptions):
    """Options that say which network a training starts from."""

    recurrence: Literal["S", "T", "ST"] = described(
        "ST", "over objects (S), frames (T) or both, without --init"
    )


def add_rvos_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train rvos`.

    Args:
        parser: receives the options; `train_rvos_from_arguments` takes what it parses.
    """
    add_descent_arguments(parser, RVOSNetwork, RVOSSettings())


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
    network = read_fields(arguments, RVOSNetwork).network(rvos)
    # Nothing is pasted here, as the training's scenes are put together later.
    sampler, validation = open_tracks(arguments, settings.frames, settings.fastest, paste=0.0)
    training = RVOSTraining(network, sampler, validation, settings, device)
    return run_from_arguments(training, settings.iterations, arguments)
