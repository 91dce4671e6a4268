"""Differentiable optimizers and how to get one, like `higher.optim`."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from innerloop.compat.copies import fresh
from innerloop.compat.higher.base import DifferentiableOptimizer, GradCallback, Override
from innerloop.compat.higher.patch import FunctionalModule
from innerloop.compat.higher.rules import (
    DifferentiableAdadelta,
    DifferentiableAdagrad,
    DifferentiableAdam,
    DifferentiableAdamax,
    DifferentiableAdamW,
    DifferentiableASGD,
    DifferentiableRMSprop,
    DifferentiableRprop,
    DifferentiableSGD,
)

__all__ = [
    "DifferentiableASGD",
    "DifferentiableAdadelta",
    "DifferentiableAdagrad",
    "DifferentiableAdam",
    "DifferentiableAdamW",
    "DifferentiableAdamax",
    "DifferentiableOptimizer",
    "DifferentiableRMSprop",
    "DifferentiableRprop",
    "DifferentiableSGD",
    "apply_trainable_opt_params",
    "create_diff_optim",
    "get_diff_optim",
    "get_trainable_opt_params",
    "register_optim",
]

_DIFFERENTIABLE: dict[type[torch.optim.Optimizer], type[DifferentiableOptimizer]] = {
    torch.optim.ASGD: DifferentiableASGD,
    torch.optim.Adadelta: DifferentiableAdadelta,
    torch.optim.Adagrad: DifferentiableAdagrad,
    torch.optim.Adam: DifferentiableAdam,
    torch.optim.AdamW: DifferentiableAdamW,
    torch.optim.Adamax: DifferentiableAdamax,
    torch.optim.RMSprop: DifferentiableRMSprop,
    torch.optim.Rprop: DifferentiableRprop,
    torch.optim.SGD: DifferentiableSGD,
}


def register_optim(
    optim_type: type[torch.optim.Optimizer], diff_optim_type: type[DifferentiableOptimizer]
) -> None:
    """Make the differentiable version of an optimizer known.

    Args:
        optim_type: the optimizer.
        diff_optim_type: a `DifferentiableOptimizer` with the same update rule.
    """
    _DIFFERENTIABLE[optim_type] = diff_optim_type


def get_diff_optim(
    opt: torch.optim.Optimizer,
    reference_params: Iterable[Tensor],
    fmodel: FunctionalModule | None = None,
    device: torch.device | None = None,
    override: Override | None = None,
    grad_callback: GradCallback | None = None,
    track_higher_grads: bool = True,
    **kwargs: Any,
) -> DifferentiableOptimizer:
    """The differentiable version of an optimizer, with its settings and state.

    Args:
        opt: the optimizer; not changed.
        reference_params: parameters of the model that it optimizes, in order.
        fmodel, device, override, grad_callback, track_higher_grads: as of
            `DifferentiableOptimizer`.
        kwargs: further arguments of a registered optimizer.

    Returns:
        The differentiable optimizer.

    Raises:
        ValueError: no differentiable version is known, or one of the arguments does not fit.
    """
    kind = _DIFFERENTIABLE.get(type(opt))
    if kind is None:
        known = ", ".join(sorted(key.__name__ for key in _DIFFERENTIABLE))
        raise ValueError(
            f"opt: {type(opt).__name__} has no differentiable version; {known} have; "
            "register_optim() adds one"
        )
    return kind(
        opt,
        reference_params,
        fmodel=fmodel,
        device=device,
        override=override,
        grad_callback=grad_callback,
        track_higher_grads=track_higher_grads,
        **kwargs,
    )


def create_diff_optim(
    opt_type: type[torch.optim.Optimizer],
    opt_kwargs: dict[str, Any] | None = None,
    params: Iterable[Any] | None = None,
    fmodel: FunctionalModule | None = None,
    device: torch.device | None = None,
    override: Override | None = None,
    grad_callback: GradCallback | None = None,
    track_higher_grads: bool = True,
    **kwargs: Any,
) -> DifferentiableOptimizer:
    """A new differentiable optimizer.

    Args:
        opt_type: a class of `torch.optim`, or one that was registered.
        opt_kwargs: settings of the optimizer. Default: its own defaults.
        params: tensors shaped like those it will update, or parameter groups of such, in the order
            of the parameters of a step. Default: those of `fmodel`.
        fmodel, device, override, grad_callback, track_higher_grads: as of
            `DifferentiableOptimizer`.
        kwargs: further arguments of a registered optimizer.

    Returns:
        The differentiable optimizer.

    Raises:
        ValueError: neither `params` nor `fmodel` is given, or an argument does not fit.
    """
    if params is None:
        if fmodel is None:
            raise ValueError("params: should be given if fmodel is not")
        params = fmodel.fast_params
    listed = list(params)
    groups = listed if listed and isinstance(listed[0], dict) else [{"params": listed}]
    groups = [{**group, "params": [fresh(p) for p in group["params"]]} for group in groups]
    reference = [param for group in groups for param in group["params"]]
    return get_diff_optim(
        opt_type(groups, **(opt_kwargs or {})),
        reference,
        fmodel,
        device,
        override,
        grad_callback,
        track_higher_grads,
        **kwargs,
    )


def get_trainable_opt_params(
    opt: torch.optim.Optimizer, device: torch.device | None = None
) -> Override:
    """The settings of an optimizer as trainable tensors.

    Args:
        opt: the optimizer.
        device: device of the tensors. Default: torch's.

    Returns:
        An `override` of every setting that is a number (not a switch), or a tuple of numbers.
    """

    def trainable(value: float) -> Tensor:
        return torch.tensor(float(value), device=device, requires_grad=True)

    override: Override = {}
    for name in opt.param_groups[0]:
        values = [group[name] for group in opt.param_groups]
        if all(_is_number(value) for value in values):
            override[name] = [trainable(value) for value in values]
        elif all(isinstance(v, tuple) and v and all(map(_is_number, v)) for v in values):
            override[name] = [tuple(map(trainable, value)) for value in values]
    return override


def apply_trainable_opt_params(opt: torch.optim.Optimizer, override: Override) -> None:
    """Write learned settings into an optimizer.

    Args:
        opt: the optimizer, whose parameter groups change.
        override: learned settings, as `get_trainable_opt_params` returns them.

    Raises:
        ValueError: a setting is unknown to the optimizer, or a tuple of another length.
    """

    def plain(value: Any, before: Any) -> Any:
        if isinstance(value, tuple | list):
            return tuple(plain(*pair) for pair in zip(value, before, strict=True))
        if not isinstance(value, Tensor):
            return value
        # Settings that were not learned keep their type and their digits beyond single precision.
        unchanged = _is_number(before) and torch.equal(value, value.new_tensor(before))
        return before if unchanged else value.item()

    for name, values in override.items():
        for index, group in enumerate(opt.param_groups):
            if name not in group:
                raise ValueError(f"override: {name!r} is not a setting of the optimizer")
            group[name] = plain(values[index if len(values) > 1 else 0], group[name])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
