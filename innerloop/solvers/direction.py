"""Solvers made of two parts: a direction, and a rate that says how far to follow it."""

from abc import abstractmethod
from copy import copy
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from innerloop import trees
from innerloop.autodiff import filled
from innerloop.problems.base import Problem
from innerloop.solvers.base import Solver, StepStats, check_not_negative, public_names, report
from innerloop.solvers.step_sizes import (
    Rate,
    StepSize,
    apply_rate,
    checked_rate,
    current_rate,
    effective_size,
)
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
        self.rate = checked_rate(rate)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if isinstance(self.rate, StepSize) and not isinstance(problem, self.rate.solves):
            raise TypeError(
                f"rate: {type(self.rate).__name__} measures {public_names(self.rate.solves)}, not "
                f"{type(problem).__name__}; a number or Armijo() works"
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
        return self._proposal(problem, params, state.step, loss, gradient, direction, memory)

    def _proposal(
        self,
        problem: Problem,
        params: Tree,
        step: int,
        loss: Tensor,
        gradient: Tree,
        direction: Tree,
        memory: Tree,
    ) -> Proposal:
        rate = current_rate(self.rate, step, problem, params, direction, loss, gradient)
        return Proposal(direction, rate, State(step + 1, memory), loss, gradient)

    def step(self, problem: Problem, params: Tree, state: State) -> tuple[Tree, State, StepStats]:
        proposal = self.propose(problem, params, state)
        return take(problem, params, proposal)


def take(problem: Problem, params: Tree, proposal: Proposal) -> tuple[Tree, State, StepStats]:
    """Take the proposed step."""
    direction, rate, state, loss, gradient = proposal
    moved = apply_rate(rate, problem, params, direction)
    size = effective_size(rate, problem, params, moved, direction)
    return moved, state, report(problem, loss, gradient, size)


class LeafState(NamedTuple):
    """What a gradient method remembers of one tensor."""

    steps: int
    """How many of the steps moved the tensor."""
    memory: Tree


class GradientMethod(DirectionSolver):
    """A direction solver that sees nothing of the problem but its gradient, tensor by tensor.

    As in torch.optim, a tensor on which the loss does not depend rests: it neither decays nor moves
    on with its momentum, and its steps are not counted.

    Args:
        rate: see `Rate`.
        weight_decay: multiple of the parameters that is added to the gradient: a number, a tensor
            of shape (), or a tree of these, structured like the parameters. Default 0.
    """

    def __init__(self, rate: Rate, weight_decay: Any = 0.0) -> None:
        super().__init__(rate)
        check_not_negative(weight_decay=weight_decay)
        self.weight_decay = weight_decay

    @abstractmethod
    def update(self, gradient: Tree, memory: Tree, step: int) -> tuple[Tree, Tree]:
        """Map a gradient and what is remembered to a direction and the next memory."""

    def init(self, problem: Problem, params: Tree) -> State:
        solvers, leaves = self._of_leaves(params), trees.leaves(params)
        pairs = zip(solvers, leaves, strict=True)
        return State(0, tuple(LeafState(0, solver.memory(leaf)) for solver, leaf in pairs))

    def propose(self, problem: Problem, params: Tree, state: State) -> Proposal:
        loss, partial = problem.value_and_partial_gradient(params)
        leaves, spec = trees.flatten(params)
        directions, states = [], []
        for solver, leaf, gradient, (steps, memory) in zip(
            self._of_leaves(params), leaves, trees.leaves(partial), state.memory, strict=True
        ):
            if gradient is None:
                direction = torch.zeros_like(leaf)
            else:
                direction, memory = solver.direction(problem, leaf, gradient, memory, steps)
                steps += 1
            directions.append(direction)
            states.append(LeafState(steps, memory))
        return self._proposal(
            problem,
            params,
            state.step,
            loss,
            filled(partial, params),
            trees.unflatten(directions, spec),
            tuple(states),
        )

    def _of_leaves(self, params: Tree) -> list[Self]:
        """The solver of every tensor: this one, with the tensor's entries of settings in trees."""
        count = len(trees.leaves(params))
        given = {
            name: trees.leaves_like(name, value, params)
            for name, value in vars(self).items()
            if name != "rate" and isinstance(value, dict | list | tuple)
        }
        if not given:
            return [self] * count
        solvers = [copy(self) for _ in range(count)]
        for number, solver in enumerate(solvers):
            vars(solver).update({name: values[number] for name, values in given.items()})
        return solvers

    def direction(
        self, problem: Problem, params: Tree, gradient: Tree, memory: Tree, step: int
    ) -> tuple[Tree, Tree]:
        return self.update(self.decayed(gradient, params), memory, step)

    def decayed(self, gradient: Tree, params: Tree) -> Tree:
        """The gradient with the weight decay added."""
        if isinstance(self.weight_decay, int | float) and self.weight_decay == 0:
            return gradient
        return trees.tree_map(lambda g, p: g + self.weight_decay * p, gradient, params)
