"""The options of a command that trains a network by a descent."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

from innerloop_vos.configuration.arguments import add_options, described
from innerloop_vos.training.data import add_data_arguments
from innerloop_vos.training.options import add_run_arguments, add_settings_arguments
from innerloop_vos.training.settings import DescentSettings

Network = TypeVar("Network")


@dataclass(frozen=True)
class NetworkOptions:
    """Which network a training starts from; those of a method add the sizes of its networks."""

    init: str | None = described(
        None, "weights to start from, instead of ImageNet's in the backbone", metavar="FILE"
    )

    def network(self, build: Callable[..., Network]) -> Network:
        """Build the network.

        Args:
            build: a builder, which takes weights, and sizes where no file has them.

        Raises:
            InputError: see the builder.
        """
        if self.init:
            return build(self.init)
        sizes = {field.name: getattr(self, field.name) for field in fields(self)}
        del sizes["init"]
        return build("imagenet", **sizes)


def add_descent_arguments(
    parser: argparse.ArgumentParser, network: type[NetworkOptions], settings: DescentSettings
) -> None:
    """Declare the options of run, data, network and settings.

    Args:
        parser: receives them.
        network: the method's options of the network.
        settings: its settings, with their defaults.
    """
    add_run_arguments(parser, every=500)
    add_data_arguments(parser)
    add_options(parser.add_argument_group("network"), network)
    add_settings_arguments(parser, settings)
