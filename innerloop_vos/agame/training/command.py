"""The command `train a-game`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass

import torch

from innerloop.errors import InputError
from innerloop_vos.agame.builders import agame
from innerloop_vos.agame.training.end_to_end import AGAMETraining
from innerloop_vos.agame.training.settings import AGAMESettings
from innerloop_vos.configuration.arguments import described, read_fields
from innerloop_vos.training.data import open_tracks
from innerloop_vos.training.descent_options import NetworkOptions, add_descent_arguments
from innerloop_vos.training.options import read_settings, run_from_arguments


@dataclass(frozen=True)
class AGAMENetwork(NetworkOptions):
    """Options that say which network a training starts from."""

    features: int = described(64, "channels of the appearance model's features, without --init")
    components: int = described(
        4, "Gaussians of the appearance model, 4, 2 or 0 for none, without --init"
    )
    propagation: bool = described(True, "propagate the mask of the frame before; without --init")

    def __post_init__(self) -> None:
        components = self.components
        if components not in (0, 2, 4) or not (components or self.propagation):
            raise InputError(
                f"--components should be 4, 2 or, with propagation, 0, got {components}"
            )
        if not 1 <= self.features <= 1024:
            raise InputError(f"--features should be from 1 to 1024, got {self.features}")


def add_agame_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train a-game`.

    Args:
        parser: receives the options; `train_agame_from_arguments` takes what it parses.
    """
    add_descent_arguments(parser, AGAMENetwork, AGAMESettings())


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
    options = read_fields(arguments, AGAMENetwork)
    sampler, validation = open_tracks(arguments, settings.frames, settings.fastest, settings.paste)
    training = AGAMETraining(
        options.network(agame),
        sampler,
        validation,
        settings,
        fresh=options.init is None,
        device=device,
    )
    return run_from_arguments(training, settings.iterations, arguments)
