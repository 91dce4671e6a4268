"""Early stopping: of all parameters that a solver passes, those that validate best."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.base import Solvable
from innerloop.problems.checks import check_whole, named
from innerloop.solvers.base import Solver, StepStats, check_instance, check_not_negative
from innerloop.trees import Tree


class _State(NamedTuple):
    inner: Any
    moving: Tree
    """Where the solver is, which may be beyond the best parameters."""
    best: Tensor
    waited: Tensor
    """Steps since the best."""


class EarlyStopping(Solver):
    """Take the steps of another solver, and keep the parameters with the least validation loss.

    Each problem stops for itself; the solve ends with the last of them. The outer gradient comes
    back through the steps to the parameters that are kept; which ones these are is a constant.

    Args:
        solver: takes the steps.
        validation: a problem of the same parameters, or a function of them, whose loss has the
            problem's `batch_shape`. It is called once before the first step and once after each,
            without gradients.
        patience: steps without improvement after which a problem stops, at least 1. Default 5.
        min_delta: an improvement is a loss that is lower by more than this. Default 0.

    Source:
        Prechelt, Early Stopping - But When?, 1998 (criterion UP).
    """

    def __init__(
        self,
        solver: Solver,
        validation: Solvable | Callable[[Tree], Tensor],
        *,
        patience: int = 5,
        min_delta: float = 0.0,
    ) -> None:
        check_instance("solver", solver, Solver, "GradientDescent(0.1)")
        if solver.direct:
            raise ValueError(
                f"solver: {type(solver).__name__} takes a single step, should be one that takes "
                "several, such as GradientDescent(0.1)"
            )
        check_whole("patience", patience, 1)
        check_not_negative(min_delta=min_delta)
        if not callable(validation) and not isinstance(validation, Solvable):
            raise TypeError(
                f"validation: {named(validation)}, should be a problem or a function that maps "
                "parameters to a loss"
            )
        self.solver = solver
        self.validation = validation.loss if isinstance(validation, Solvable) else validation
        self.patience, self.min_delta = patience, min_delta

    def check(self, problem: Solvable) -> None:
        self.solver.check(problem)

    def biased_by(self) -> str:
        return "patience"

    def init(self, problem: Solvable, params: Tree) -> _State:
        best = self._validated(problem, params)
        waited = torch.zeros_like(best, dtype=torch.int64)
        return _State(self.solver.init(problem, params), params, best, waited)

    def step(
        self, problem: Solvable, params: Tree, state: _State
    ) -> tuple[Tree, _State, StepStats]:
        moving, inner, stats = self.solver.step(problem, state.moving, state.inner)
        loss = self._validated(problem, moving)
        lower = (loss < state.best - self.min_delta) | (state.best.isnan() & ~loss.isnan())
        better = lower & (state.waited < self.patience)
        kept = trees.tree_map(
            lambda new, old: torch.where(trees.per_problem(better, new).bool(), new, old),
            moving,
            params,
        )
        best = torch.where(better, loss, state.best)
        waited = torch.where(better, 0, state.waited + 1)
        return kept, _State(inner, moving, best, waited), stats

    def finished(self, state: _State) -> Tensor:
        return state.waited >= self.patience

    @torch.no_grad()
    def _validated(self, problem: Solvable, params: Tree) -> Tensor:
        loss = self.validation(trees.detach(params))
        if loss.shape != problem.batch_shape:
            raise ValueError(
                f"validation: returned shape {tuple(loss.shape)}, should be one loss per problem, "
                f"{tuple(problem.batch_shape)}"
            )
        return loss
