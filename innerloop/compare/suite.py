"""Suites: a bilevel problem with a row for every way to solve it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.trees import Tree

Kind = Literal["solver", "adjoint", "batching", "peer"]


class Clock:
    """Counts the seconds spent in the forward part of a meta-gradient: `with clock: ...`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.seconds += perf_counter() - self._start


class Outcome(NamedTuple):
    """The results of a row, all without gradient."""

    loss: Tensor
    """The loss that the suite reports, shape ()."""
    gradient: Sequence[Tensor]
    """The meta-gradient, one tensor per leaf of the meta-parameters."""
    solution: Sequence[Tensor] | None = None
    """The final inner parameters; None if the row cannot return them."""
    losses: Tensor | None = None
    """The inner loss after 0 to k steps, shape (k + 1,); None where the row does not report it."""


Run = Callable[[Clock], Outcome]
"""Computes an outer loss, its parts `with clock`, and then the meta-gradient."""


@dataclass(frozen=True)
class Row:
    """A way to solve the bilevel problem of a suite.

    Attributes:
        name: unique in the suite.
        kind: what is varied: the inner "solver", the "adjoint", how tasks are computed at once
            ("batching"), or the library ("peer").
        prepare: makes the data in a dtype, and returns what is measured.
        exact: whether the row claims the meta-gradient of the suite's reference. The claim is
            checked in double precision.
        needs: package that the row imports, if it is not one that innerloop needs. Default None.
    """

    name: str
    kind: Kind
    prepare: Callable[[torch.dtype], Run]
    exact: bool = False
    needs: str | None = None


@dataclass(frozen=True)
class Suite:
    """Rows that solve the same problem.

    Attributes:
        description: one line for the table's title: the problem and its size.
        reference: computes the exact outcome in float64.
        meaning: the reference in words.
        baseline: name of the row that the others are divided by.
        rows: at least the baseline.
        steps: inner steps that every row takes.
    """

    description: str
    reference: Callable[[], Outcome]
    meaning: str
    baseline: str
    rows: Sequence[Row]
    steps: int


def differentiate(
    outer: Callable[[Tree], tuple[Tensor, Any]], hyper: Tree, clock: Clock
) -> tuple[Tensor, list[Tensor], Any]:
    """The outer loss at `hyper`, its gradient, and what else `outer` returned.

    Args:
        outer: maps meta-parameters to a loss of shape () and anything else; timed as forward.
        hyper: the meta-parameters, a tree of tensors.
        clock: counts the forward seconds.
    """
    fresh = trees.tree_map(lambda leaf: leaf.detach().requires_grad_(), hyper)
    with clock:
        loss, rest = outer(fresh)
    leaves = trees.leaves(fresh)
    if not loss.requires_grad:
        return loss, [torch.zeros_like(leaf) for leaf in leaves], rest
    gradient = torch.autograd.grad(loss, leaves, materialize_grads=True)
    return loss.detach(), list(gradient), rest
