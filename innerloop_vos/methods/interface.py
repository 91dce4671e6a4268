"""What a method is to the command line: a function, or a class, that builds its segmenter."""

from dataclasses import dataclass
from typing import Protocol

import torch

from innerloop.errors import InputError
from innerloop_vos.segmenter import Segmenter


@dataclass(frozen=True)
class MethodOptions:
    """What the command line says to all methods; each refuses what it has no use for.

    Args:
        solver: name of the inner solver; see `innerloop_vos.methods.solvers`. None: the method's.
        backbone: name of the feature extractor; see `innerloop_vos.backbones`. None: the method's.
        speed: name of a preset. None: the method's.
        steps: fine-tuning steps on the first frame.
        online: whether to adapt on later frames too.
        settings: further settings, each NAME=VALUE, for
            `innerloop_vos.configuration.options.read_options` and a dataclass of the method.
    """

    solver: str | None
    backbone: str | None
    speed: str | None
    steps: int
    online: bool
    settings: tuple[str, ...]

    def refuse_backbone(self, method: str) -> None:
        """Raise InputError if a backbone was given to a method that brings its own."""
        if self.backbone:
            raise InputError(
                f"backbone: {self.backbone!r}; that of {method} comes with its weights, only ridge "
                "(--method ridge) takes another"
            )

    def refuse_solver(self, method: str, own: str) -> None:
        """Raise InputError if a solver was given to a method that brings its own."""
        if self.solver:
            raise InputError(f"solver: {self.solver!r}; {method} has its own, {own}")

    def refuse_speed(self, method: str) -> None:
        """Raise InputError if a preset was asked of a method that has none."""
        if self.speed:
            raise InputError(
                f"speed: {self.speed!r}; {method} has no presets, only lwl-lite (--method lwl-lite)"
            )


class Builder(Protocol):
    """What `--method` finds: by the name of an entry point, or as `package.module:Object`.

    A package that brings a method declares, in its setup.cfg,

        [options.entry_points]
        innerloop_vos.methods =
            mine = my_package.module:build

    and `--method mine` then builds it; `--method my_package.module:build` needs no declaration.
    A subclass of `Segmenter` that is made with these three arguments is a builder too.
    """

    def __call__(
        self, options: MethodOptions, weights: str | None, device: torch.device
    ) -> Segmenter:
        """Build the segmenter.

        Args:
            options: see there.
            weights: the file that `--weights` names, if any.
            device: where to compute.

        Raises:
            InputError: an option, or the file, cannot be used.
        """
