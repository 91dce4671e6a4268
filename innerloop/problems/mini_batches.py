"""Losses over batches of data, of which each step sees some."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.base import Problem
from innerloop.problems.checks import check_whole, named
from innerloop.problems.objective import Objective
from innerloop.trees import Tree


class MiniBatches(Problem):
    """The mean of a loss over batches of data, of which each step sees the next ones.

    Step s sees the batches s · accumulate, s · accumulate + 1, ..., and after the last one the
    first again; a solve begins with the first, but for `after(steps)`. Since a batch is found by
    its number, steps that are run again, as by `Unroll(checkpoint=)`, see the same ones. What an
    adjoint asks of the problem as a whole, as `Implicit` does, is of the mean over all batches.

    Args:
        loss: maps parameters and a batch to the loss, shape `batch_shape`.
        batches: of data, of any kind, by their number: a list, or a sequence that loads them.
        accumulate: batches that a step sees, whose losses and gradients are averaged, computed one
            after the other. Default 1.
        batch_shape: leading dimensions of every parameter if `loss` computes the losses of a batch
            of independent problems. Default (): one problem.
        has_aux: `loss` returns a pair of the loss and anything else, see `Objective`;
            `Solution.aux` is that of the batch that the last step saw, with `accumulate` a tuple.
            Default False.
        objective: makes the problem of one batch from a function of the parameters alone. Default
            `Objective`.

    Raises:
        TypeError, ValueError: an argument is of another kind, or there are no batches.
    """

    def __init__(
        self,
        loss: Callable[[Tree, Any], Any],
        batches: Sequence[Any],
        *,
        accumulate: int = 1,
        batch_shape: tuple[int, ...] = (),
        has_aux: bool = False,
        objective: Callable[[Callable[[Tree], Any]], Problem] | None = None,
    ) -> None:
        if not callable(loss):
            raise TypeError(f"loss: {named(loss)}, should be a function of parameters and a batch")
        numbered = hasattr(batches, "__getitem__") and hasattr(batches, "__len__")
        if not numbered or isinstance(batches, Mapping):
            raise TypeError(
                f"batches: {named(batches)}, should be a sequence such as list(loader), since "
                "batches are taken by their number"
            )
        if not len(batches):
            raise ValueError("batches: empty, should hold at least one")
        check_whole("accumulate", accumulate, 1)
        self.batches = batches
        self.accumulate = accumulate
        self.batch_shape = torch.Size(batch_shape)
        self._loss = loss
        self._first = 0
        self._objective = objective or partial(Objective, batch_shape=batch_shape, has_aux=has_aux)

    def at(self, step: int) -> Problem:
        first, count = (self._first + step) * self.accumulate, len(self.batches)
        seen = [self._of(number % count) for number in range(first, first + self.accumulate)]
        return _Mean(seen, changing=self.accumulate % count != 0)

    def after(self, steps: int) -> "MiniBatches":
        later = copy(self)
        later._first += steps
        return later

    def loss(self, params: Tree) -> Tensor:
        return self._whole().loss(params)

    def aux(self, params: Tree) -> Any:
        return self._whole().aux(params)

    def value_and_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        return self._whole().value_and_gradient(params)

    def value_and_partial_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        return self._whole().value_and_partial_gradient(params)

    def _whole(self) -> "_Mean":
        return _Mean([self._of(number) for number in range(len(self.batches))])

    def _of(self, number: int) -> Problem:
        batch = self.batches[number]
        return self._objective(lambda params: self._loss(params, batch))


class _Mean(Problem):
    """The mean of several problems of the same parameters."""

    def __init__(self, parts: list[Problem], *, changing: bool = False) -> None:
        self.parts, self.changing = parts, changing
        self.batch_shape = parts[0].batch_shape

    def loss(self, params: Tree) -> Tensor:
        return torch.stack([part.loss(params) for part in self.parts]).mean(0)

    def aux(self, params: Tree) -> Any:
        each = tuple(part.aux(params) for part in self.parts)
        return each[0] if len(each) == 1 else each

    def value_and_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        return self._averaged([part.value_and_gradient(params) for part in self.parts])

    def value_and_partial_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        return self._averaged([part.value_and_partial_gradient(params) for part in self.parts])

    def _averaged(self, found: list[tuple[Tensor, Tree]]) -> tuple[Tensor, Tree]:
        losses, gradients = zip(*found, strict=True)
        return torch.stack(losses).mean(0), trees.tree_map(_mean, *gradients)


def _mean(*parts: Tensor | None) -> Tensor | None:
    """The mean of tensors, of which those that are not there are zero."""
    known = [part for part in parts if part is not None]
    return torch.stack(known).sum(0) / len(parts) if known else None
