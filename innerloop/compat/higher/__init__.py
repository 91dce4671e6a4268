"""The public calls of `higher` 0.2.1: `from innerloop.compat import higher`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from innerloop.compat.higher import optim, patch, utils
from innerloop.compat.higher.base import DifferentiableOptimizer, Override
from innerloop.compat.higher.optim import create_diff_optim, get_diff_optim, register_optim
from innerloop.compat.higher.patch import monkeypatch

__all__ = [
    "create_diff_optim",
    "get_diff_optim",
    "innerloop_ctx",
    "monkeypatch",
    "optim",
    "patch",
    "register_optim",
    "utils",
]


@contextmanager
def innerloop_ctx(
    model: nn.Module,
    opt: torch.optim.Optimizer,
    device: torch.device | None = None,
    copy_initial_weights: bool = True,
    override: Override | None = None,
    track_higher_grads: bool = True,
) -> Iterator[tuple[Any, DifferentiableOptimizer]]:
    """A functional version of a model and a differentiable one of its optimizer.

    Recurrent modules on a GPU have no second derivative in cuDNN: wrap the use of the model in
    `torch.backends.cudnn.flags(enabled=False)`.

    Args:
        model: not changed, buffers included.
        opt: an optimizer of all or some of its parameters; not changed.
        device, copy_initial_weights: see `monkeypatch`.
        override: see `DifferentiableOptimizer`.
        track_higher_grads: keep the parameters of all steps and the graph between them. Without
            it no gradient reaches the initial ones. Default True.

    Yields:
        The functional module and the optimizer.

    Raises:
        ValueError: the model is functional already, or the optimizer does not fit it.
    """
    fmodel = monkeypatch(model, device, copy_initial_weights, track_higher_grads)
    yield (
        fmodel,
        get_diff_optim(
            opt,
            model.parameters(),
            fmodel=fmodel,
            device=device,
            override=override,
            track_higher_grads=track_higher_grads,
        ),
    )
