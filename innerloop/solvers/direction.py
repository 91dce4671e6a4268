"""Solvers made of two parts: a direction, and a rate that says how far to follow it."""

from abc import abstractmethod
from typing import Any, NamedTuple

from innerloop import trees
from innerloop.problems.base import Problem
from innerloop.solvers.base import Solver, StepStats, check_not_negative, report
from innerloop.solvers.step_sizes import Rate, StepSize, apply_rate, current_rate, effective_size
from innerloop.trees import Tree


class State(NamedTuple):
    """What a direction solver remembers."""

    step: int
    memory: Tree


class Proposal(NamedTuple):
    """A step not yet taken."""

    direction: Tree
    rate: Tree
    state: State
    loss: Any
    gradient: Tree


class DirectionSolver(Solver):
    """Move by `rate` times a direction.

    Args:
        rate: see `Rate`.
    """

    def __init__(self, rate: Rate) -> None:
        check_not_negative(rate=rate)
        self.rate = rate

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if isinstance(self.rate, StepSize) and not isinstance(problem, self.rate.solves):
            raise TypeError(
                f"rate: {type(self.rate).__name__} needs the structure of a "
                f"{self.rate.solves.__name__}, which {type(problem).__name__} does not have; a "
                "number or Armijo() works"
            )

    @abstractmethod
    def direction(
        self, problem: Any, params: Tree, gradient: Tree, memory: Tree, step: int
    ) -> tuple[Tree, Tree]:
        """Where to go from `params`, and the next memory; `step` counts from 0."""

    def memory(self, params: Tree) -> Tree:
        """What is remembered before the first step. Default: nothing."""
        return None

    def init(self, problem: Problem, params: Tree) -> State:
        return State(0, self.memory(params))

    def propose(self, problem: Problem, params: Tree, state: State) -> Proposal:
        """Direction and rate at `params`."""
        loss, gradient = problem.value_and_gradient(params)
        direction, memory = self.direction(problem, params, gradient, state.memory, state.step)
        rate = current_rate(self.rate, state.step, problem, params, direction, loss, gradient)
        return Proposal(direction, rate, State(state.step + 1, memory), loss, gradient)

    def step(self, problem: Problem, params: Tree, state: State) -> tuple[Tree, State, StepStats]:
        proposal = self.propose(problem, params, state)
        return take(problem, params, proposal)


def take(problem: Problem, params: Tree, proposal: Proposal) -> tuple[Tree, State, StepStats]:
    """Take the proposed step."""
    direction, rate, state, loss, gradient = proposal
    moved = apply_rate(rate, problem, params, direction)
    size = effective_size(rate, problem, params, moved, direction)
    return moved, state, report(problem, loss, gradient, size)


class GradientMethod(DirectionSolver):
    """A direction solver that sees nothing of the problem but its gradient.

    Args:
        rate: see `Rate`.
        weight_decay: multiple of the parameters that is added to the gradient; a float or a tensor
            of shape (). Default 0.
    """

    def __init__(self, rate: Rate, weight_decay: Any = 0.0) -> None:
        super().__init__(rate)
        check_not_negative(weight_decay=weight_decay)
        self.weight_decay = weight_decay

    @abstractmethod
    def update(self, gradient: Tree, memory: Tree, step: int) -> tuple[Tree, Tree]:
        """Map a gradient and what is remembered to a direction and the next memory."""

    def direction(
        self, problem: Problem, params: Tree, gradient: Tree, memory: Tree, step: int
    ) -> tuple[Tree, Tree]:
        return self.update(self.decayed(gradient, params), memory, step)

    def decayed(self, gradient: Tree, params: Tree) -> Tree:
        """The gradient with the weight decay added."""
        if isinstance(self.weight_decay, int | float) and self.weight_decay == 0:
            return gradient
        return trees.tree_map(lambda g, p: g + self.weight_decay * p, gradient, params)
