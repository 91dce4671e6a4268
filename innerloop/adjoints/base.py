"""The interface of adjoints: how the outer gradient comes back through an inner solve."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop._torch import pytree
from innerloop.problems.base import Solvable
from innerloop.solvers.base import Solver
from innerloop.solvers.loop import Loop, Outcome
from innerloop.trees import Tree


class Adjoint(ABC):
    """The rule by which the outer gradient passes through the loop of inner steps."""

    def check(self, problem: Solvable, solver: Solver) -> None:  # noqa: B027 - most rules always apply
        """Raise TypeError or ValueError if the rule does not apply to this solver."""

    @abstractmethod
    def run(self, loop: Loop, init: Tree) -> Outcome:
        """Run `loop` from `init` so that its result carries the gradient that this rule gives."""


class Detach(Adjoint):
    """No gradient: the solution is a constant, for inference or where only its value is wanted."""

    def run(self, loop: Loop, init: Tree) -> Outcome:
        with torch.no_grad():
            return loop.run(trees.detach(init))


def constant(loop: Loop, carried: Any) -> Any:
    """A state to hand on without gradient; None if it is a function of the parameters.

    For adjoints that give the parameters another gradient than the steps'.
    """
    if loop.solver.state_follows_params:
        return None
    return pytree.tree_map_only(Tensor, torch.Tensor.detach, carried)
