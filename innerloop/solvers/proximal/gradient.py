"""Proximal gradient descent."""

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.composite import Composite
from innerloop.solvers.base import Solver, StepStats, report
from innerloop.solvers.proximal.backtracking import Backtracking
from innerloop.solvers.step_sizes import Rate, StepSize, checked_rate, effective_size, rate_at
from innerloop.trees import Tree

ProximalRate: TypeAlias = Rate | Backtracking
"""A number; a tensor, one value for all or one per problem; a tree of these, one for each tensor of
the parameters; a function from the number of the step to one of these, such as `LearningRates`; or
`Backtracking`. Tensors receive the outer gradient."""


class ProximalState(NamedTuple):
    """The state of a proximal solver."""

    step: int
    size: Tensor | None = None
    """Size that backtracking tries first, one per problem."""
    momentum: Any = None


class ProximalGradient(Solver):
    """Proximal gradient descent: p ← prox_ηg(p − η ∇f(p)) for the smooth part f and the term g.

    With a set such as `Box` or `Simplex` for g it is projected gradient descent, with `L1` the
    iterative soft thresholding of the lasso (ISTA).

    Args:
        rate: η, below 2 / L for a gradient with Lipschitz constant L, see `ProximalRate`. Default
            0.01; `Backtracking()` finds it.

    Source:
        Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse
        Problems, 2009, section 3; Bertsekas, On the Goldstein-Levitin-Polyak Gradient Projection
        Method, 1976.
    """

    solves = Composite

    def __init__(self, rate: ProximalRate = 0.01) -> None:
        if isinstance(rate, StepSize):
            raise TypeError(
                f"rate: {type(rate).__name__} searches along a line, which a proximal step leaves; "
                "a number and Backtracking() work"
            )
        self.rate = rate if isinstance(rate, Backtracking) else checked_rate(rate)

    def reach(self, problem: Composite, params: Tree, gradient: Tree, sizes: list[Tensor]) -> Tree:
        """Where a step ends, for a size of each tensor."""
        return problem.descend(params, gradient, sizes)

    def init(self, problem: Composite, params: Tree) -> ProximalState:
        if not isinstance(self.rate, Backtracking):
            return ProximalState(0)
        first = trees.leaves(params)[0]
        return ProximalState(0, first.new_full(problem.batch_shape, self.rate.initial))

    def step(
        self, problem: Composite, params: Tree, state: ProximalState
    ) -> tuple[Tree, ProximalState, StepStats]:
        moved, size, stats = self.advance(problem, params, state)
        return moved, ProximalState(state.step + 1, size), stats

    def advance(
        self, problem: Composite, params: Tree, state: ProximalState
    ) -> tuple[Tree, Tensor | None, StepStats]:
        """Where a step from `params` ends, the size found by backtracking, and the report."""
        loss, gradient = problem.problem.value_and_gradient(params)
        rate, size = self.rate, state.size
        leaves = trees.leaves(params)
        if isinstance(rate, Backtracking):
            assert size is not None

            def reach(params: Tree, gradient: Tree, size: Tensor) -> Tree:
                return self.reach(problem, params, gradient, [size] * len(leaves))

            rate = size = rate(problem, params, loss, gradient, size, reach)
        else:
            rate = rate_at(rate, state.step)
        moved = self.reach(problem, params, gradient, _sizes(rate, params, problem.batch_shape))
        with torch.no_grad():
            total = problem.plus_term(loss, params)
            condition = problem.condition(params, gradient)
            taken = effective_size(rate, problem, params, moved, condition)
        return moved, size, report(problem, total, condition, taken)

    def carried(self, state: ProximalState) -> ProximalState:
        return state

    def check_carried(self, problem: Composite, params: Tree, carried: Any) -> None:
        super().check_carried(problem, params, carried)
        new = self.init(problem, params)
        form = partial(trees.tree_map, lambda entry: getattr(entry, "shape", None))
        if not isinstance(carried, ProximalState) or form(carried[1:]) != form(new[1:]):
            raise ValueError(
                f"state: does not fit this {type(self).__name__}, should come from one with the "
                "same settings"
            )


def _sizes(rate: Tree, params: Tree, batch_shape: torch.Size) -> list[Tensor]:
    """The rate as one size for each tensor."""
    leaves = trees.leaves(params)
    if isinstance(rate, int | float | Tensor):
        rates = [rate] * len(leaves)
    else:
        rates = trees.leaves_like("rate", rate, params)
    for entry in rates:
        if isinstance(entry, Tensor) and entry.shape not in (torch.Size(), batch_shape):
            raise ValueError(
                f"rate: shape {tuple(entry.shape)}, should be () or the batch shape "
                f"{tuple(batch_shape)}: proximal steps take one rate for each tensor"
            )
    pairs = zip(rates, leaves, strict=True)
    return [torch.as_tensor(rate, dtype=leaf.dtype, device=leaf.device) for rate, leaf in pairs]
