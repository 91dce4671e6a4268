"""Learned learning rates, from one for a model to one for every parameter."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from innerloop import trees
from innerloop.problems.checks import check_parameter, check_whole
from innerloop.solvers.base import check_not_negative
from innerloop.trees import Tree

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class RateReport(NamedTuple):
    """A summary of the rates of one tensor."""

    mean: float
    minimum: float
    maximum: float
    frozen: float
    """Share of the rates that are at the minimum, 0 by default: what they move is not trained."""


class LearningRates(nn.Module):
    """Learning rates as parameters that an outer optimizer trains.

    Hand it to a solver as its rate, `GradientDescent(rates)`, and its parameters to the outer
    optimizer; call `clamp_()` after every outer step.

    Args:
        params: what the inner solver adapts: a module, or a tree of tensors.
        per: what has its own rate: the "model", every "tensor", every "neuron" (entry of the
            first axis of every tensor) or every "parameter". Default "tensor".
        init: initial value of all rates. Default 0.01.
        per_step: number of inner steps with their own rates; later steps use the last ones.
            Default: the same rates in every step.
        minimum: min value that `clamp_` leaves, not negative. Default 0.
        transposed_axis: axis of a neuron in the weight of a ConvTranspose layer, where `params` is
            a module: 0 for its input channels, 1 for its output channels. Default 0.

    Source:
        Li et al., Meta-SGD, 2017 (per parameter); Antoniou et al., How to Train Your MAML, ICLR
        2019 (per tensor and step); Meinhardt and Leal-Taixé, Make One-Shot Video Object
        Segmentation Efficient Again, NeurIPS 2020, section 3.2.4 (per neuron).
    """

    def __init__(
        self,
        params: nn.Module | Tree,
        per: Literal["model", "tensor", "neuron", "parameter"] = "tensor",
        init: float = 0.01,
        per_step: int | None = None,
        minimum: float = 0.0,
        transposed_axis: Literal[0, 1] = 0,
    ) -> None:
        super().__init__()
        if per not in ("model", "tensor", "neuron", "parameter"):
            raise ValueError(f"per: {per!r}, should be 'model', 'tensor', 'neuron' or 'parameter'")
        if per_step is not None:
            check_whole("per_step", per_step, 1)
        check_not_negative(minimum=minimum, init=init)
        if not math.isfinite(init):
            raise ValueError(f"init: {init}, should be finite")
        self.per = per
        self.per_step = per_step
        self.minimum = minimum
        tree, second_axis = _parameters(params, transposed_axis)
        named = trees.named_leaves(tree)
        if not named:
            raise ValueError("params: holds no tensor, should hold at least one")
        for name, leaf in named:
            check_parameter(f"params[{name!r}]", leaf)
        self._spec = trees.flatten(tree)[1]
        if per == "model":
            named = [("model", named[0][1])]
        self._keys = [name.replace(".", "-") or "rate" for name, _ in named]
        for key, (name, leaf) in zip(self._keys, named, strict=True):
            shape = _shape(leaf, per, axis=1 if name in second_axis else 0)
            steps = () if per_step is None else (per_step,)
            rates = torch.full((*steps, *shape), init, dtype=leaf.dtype, device=leaf.device)
            self.register_parameter(key, nn.Parameter(rates))

    def forward(self, step: int = 0) -> Tree:
        """The rates of an inner step, from 0: one tensor for a "model", else like `params`."""
        rates = [getattr(self, key) for key in self._keys]
        if self.per_step is not None:
            rates = [rate[min(step, self.per_step - 1)] for rate in rates]
        return rates[0] if self.per == "model" else trees.unflatten(rates, self._spec)

    def clamp_(self) -> None:
        """Raise every rate to at least the minimum, in place; call it after every outer step."""
        with torch.no_grad():
            for rate in self.parameters():
                rate.clamp_(min=self.minimum)

    def report(self) -> dict[str, RateReport]:
        """Mean, min, max and share of frozen rates of every tensor, by name."""
        rows = {}
        for key in self._keys:
            rates: Tensor = getattr(self, key).detach()
            rows[key.replace("-", ".")] = RateReport(
                rates.mean().item(),
                rates.min().item(),
                rates.max().item(),
                (rates <= self.minimum).double().mean().item(),
            )
        return rows


def _parameters(params: nn.Module | Tree, transposed_axis: int) -> tuple[Tree, set[str]]:
    """The tree of parameters, and the names of those whose neurons lie along the second axis."""
    if not isinstance(params, nn.Module):
        return params, set()
    second = {
        f"{name}.weight" if name else "weight"
        for name, module in params.named_modules()
        if isinstance(module, _TRANSPOSED) and transposed_axis == 1
    }
    return dict(params.named_parameters()), second


def _shape(leaf: Tensor, per: str, axis: int) -> tuple[int, ...]:
    """The shape of the rates of a tensor, which broadcasts over it."""
    if per == "parameter":
        return tuple(leaf.shape)
    if per == "neuron" and leaf.ndim:
        return tuple(size if i == axis else 1 for i, size in enumerate(leaf.shape))
    return ()
