"""The state that a solve hands on to the next one, besides the parameters."""

from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop._torch import pytree
from innerloop.problems.base import Solvable
from innerloop.solvers.base import Solver, check_instance
from innerloop.trees import Tree


class SolverState:
    """Where a solver stopped: its momentum, its averages, its trust region, its prediction.

    `Solution.state` has it, and `solve(..., state=...)` continues from it, with the same kind of
    solver, problem and parameters. The problem's data may differ, unless the solver keeps values
    that depend on them. The content is opaque: only the solver reads it.

    Attributes:
        inner: a tree of tensors and numbers, carrying the gradient that the adjoint gives.
    """

    def __init__(self, solver: Solver, problem: Solvable, params: Tree, inner: Any) -> None:
        self.inner = inner
        self._solver, self._problem = type(solver), type(problem)
        self._params = trees.tree_map(lambda leaf: (leaf.shape, leaf.dtype), params)

    def detach(self) -> "SolverState":
        """The same without gradient, which can be copied and pickled."""
        detached = object.__new__(SolverState)
        detached.__dict__.update(self.__dict__)
        detached.inner = pytree.tree_map_only(Tensor, torch.Tensor.detach, self.inner)
        return detached

    def check(self, solver: Solver, problem: Solvable, params: Tree) -> None:
        """Raise TypeError or ValueError unless a solve of these can continue from it."""
        for name, left, now in (
            ("solver", self._solver, type(solver)),
            ("problem", self._problem, type(problem)),
        ):
            if left is not now:
                raise TypeError(
                    f"state: from a solve whose {name} is {left.__name__}, should be from one with "
                    f"{now.__name__}"
                )
        if self._params != trees.tree_map(lambda leaf: (leaf.shape, leaf.dtype), params):
            raise ValueError(
                "state: from a solve for parameters of other names, shapes or dtypes than `init`, "
                "should be from one with the same"
            )
        solver.check_carried(problem, params, self.inner)


def check_state(state: object, solver: Solver, problem: Solvable, params: Tree) -> Any:
    """The content of a state, None for no state; TypeError or ValueError if it does not fit."""
    if state is None:
        return None
    check_instance("state", state, SolverState, "solution.state")
    assert isinstance(state, SolverState)
    state.check(solver, problem, params)
    return state.inner
