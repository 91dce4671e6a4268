"""Solvers made of two parts: a direction, and a rate that says how far to follow it."""

import operator
from abc import abstractmethod
from copy import copy
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import filled
from innerloop.problems.base import Problem, Solvable
from innerloop.problems.checks import named
from innerloop.solvers.base import Solver, StepStats, check_not_negative, public_names, report
from innerloop.solvers.step_sizes import (
    Rate,
    StepSize,
    apply_rate,
    checked_rate,
    current_rate,
    effective_size,
)
from innerloop.solvers.transforms import GradientTransform
from innerloop.trees import Tree


class State(NamedTuple):
    """The state of a direction solver."""

    step: int
    memory: Tree
    moved: int | tuple[int, ...] = 0
    """Number of steps that moved all tensors, or each one if some were skipped or differ."""


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

    def check(self, problem: Solvable) -> None:
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
        """The direction from `params`, and the next memory; `step` counts from 0."""

    def memory(self, params: Tree) -> Tree:
        """The memory before the first step. Default: None."""
        return None

    def init(self, problem: Problem, params: Tree) -> State:
        return State(0, self.memory(params))

    def propose(self, problem: Problem, params: Tree, state: State) -> Proposal:
        """Direction and rate at `params`."""
        loss, gradient = problem.value_and_gradient(params)
        direction, memory = self.direction(problem, params, gradient, state.memory, state.step)
        state = State(state.step + 1, memory)
        return self._proposal(problem, params, loss, gradient, direction, state)

    def _proposal(
        self,
        problem: Problem,
        params: Tree,
        loss: Tensor,
        gradient: Tree,
        direction: Tree,
        state: State,
    ) -> Proposal:
        rate = current_rate(self.rate, state.step - 1, problem, params, direction, loss, gradient)
        return Proposal(direction, rate, state, loss, gradient)

    def step(self, problem: Problem, params: Tree, state: State) -> tuple[Tree, State, StepStats]:
        proposal = self.propose(problem, params, state)
        return take(problem, params, proposal)


def _form(memory: Tree) -> tuple[Any, list[torch.Size | None]]:
    leaves, spec = trees.flatten(memory)
    return spec, [leaf.shape if isinstance(leaf, Tensor) else None for leaf in leaves]


def take(problem: Problem, params: Tree, proposal: Proposal) -> tuple[Tree, State, StepStats]:
    """Take the proposed step."""
    direction, rate, state, loss, gradient = proposal
    moved = apply_rate(rate, problem, params, direction)
    size = effective_size(rate, problem, params, moved, direction)
    return moved, state, report(problem, loss, gradient, size)


class GradientMethod(DirectionSolver):
    """A direction solver that uses only the gradient of the problem.

    As in torch.optim, a tensor on which the loss does not depend stays as it is: it neither decays
    nor moves on with its momentum, and its steps are not counted.

    Args:
        rate: see `Rate`.
        weight_decay: multiple of the parameters that is added to the gradient: a number, a tensor
            of shape (), or a tree of these, structured like the parameters. Default 0.
    """

    transforms: tuple[GradientTransform, ...] = ()
    """What changes the gradient, see `transformed`."""

    def __init__(self, rate: Rate, weight_decay: Any = 0.0) -> None:
        super().__init__(rate)
        check_not_negative(weight_decay=weight_decay)
        self.weight_decay = weight_decay

    def transformed(self, *transforms: GradientTransform) -> Self:
        """This solver with gradients that are changed before it follows them.

        Weight decay is added after that. Line searches and reports see the gradient as it is.

        Args:
            transforms: such as `ClipNorm(1.0)`, applied in this order, after those there are.

        Raises:
            TypeError: one is no function.
        """
        for transform in transforms:
            if not callable(transform):
                raise TypeError(
                    f"transforms: {named(transform)}, should be a function of a problem and its "
                    "gradient, such as ClipNorm(1.0)"
                )
        solver = copy(self)
        solver.transforms = (*self.transforms, *transforms)
        return solver

    def biased_by(self) -> str | None:
        decay = self.weight_decay
        return "weight_decay" if isinstance(decay, Tensor) or decay != 0 else None

    def carried(self, state: State) -> State:
        return state

    def check_carried(self, problem: Problem, params: Tree, carried: Any) -> None:
        super().check_carried(problem, params, carried)
        new = self.init(problem, params)
        if not isinstance(carried, State) or _form(carried.memory) != _form(new.memory):
            raise ValueError(
                f"state: does not fit this {type(self).__name__}, should come from one with "
                "the same settings, such as momentum"
            )

    @abstractmethod
    def update(self, gradient: Tree, memory: Tree, step: int) -> tuple[Tree, Tree]:
        """Map a gradient and the memory to a direction and the next memory."""

    def init(self, problem: Problem, params: Tree) -> State:
        each = (0,) * len(trees.leaves(params))
        return State(0, self.memory(params), each if self._settings_of_leaves(params) else 0)

    def propose(self, problem: Problem, params: Tree, state: State) -> Proposal:
        loss, partial = problem.value_and_partial_gradient(params)
        reached = [part is not None for part in trees.leaves(partial)]
        gradient, moved = partial if all(reached) else filled(partial, params), state.moved
        followed = gradient
        for transform in self.transforms:
            followed = transform(problem, followed)
        if isinstance(moved, int) and all(reached):
            direction, memory = self.direction(problem, params, followed, state.memory, moved)
            moved += 1
        else:
            if isinstance(moved, int):
                moved = (moved,) * len(reached)
            direction, memory = self._leaf_by_leaf(
                problem, params, followed, state.memory, moved, reached
            )
            moved = tuple(map(operator.add, moved, reached))
        state = State(state.step + 1, memory, moved)
        return self._proposal(problem, params, loss, gradient, direction, state)

    def _leaf_by_leaf(
        self,
        problem: Problem,
        params: Tree,
        gradient: Tree,
        memory: Tree,
        moved: tuple[int, ...],
        reached: list[bool],
    ) -> tuple[Tree, Tree]:
        """`direction`, where tensors have their own settings, or some are or were not updated."""
        leaves, spec = trees.flatten(params)
        count, settings = len(leaves), self._settings_of_leaves(params)
        remembered, memory_spec = trees.flatten(memory)
        directions = [torch.zeros_like(leaf) for leaf in leaves]
        for i, (leaf, part) in enumerate(zip(leaves, trees.leaves(gradient), strict=True)):
            if not reached[i]:
                continue
            solver = copy(self)
            vars(solver).update({name: values[i] for name, values in settings.items()})
            # The memory is None, or a group of trees like the parameters.
            own_spec = trees.flatten(solver.memory(leaf))[1]
            own = None if memory is None else trees.unflatten(remembered[i::count], own_spec)
            directions[i], own = solver.direction(problem, leaf, part, own, moved[i])
            if memory is not None:
                remembered[i::count] = trees.leaves(own)
        return trees.unflatten(directions, spec), trees.unflatten(remembered, memory_spec)

    def _settings_of_leaves(self, params: Tree) -> dict[str, list[Any]]:
        """The settings that are given as trees, one value for each tensor."""
        return {
            name: trees.leaves_like(name, value, params)
            for name, value in vars(self).items()
            if name not in ("rate", "transforms") and isinstance(value, (dict, list, tuple))
        }

    def direction(
        self, problem: Problem, params: Tree, gradient: Tree, memory: Tree, step: int
    ) -> tuple[Tree, Tree]:
        return self.update(self.decayed(gradient, params), memory, step)

    def decayed(self, gradient: Tree, params: Tree) -> Tree:
        """The gradient with the weight decay added."""
        if isinstance(self.weight_decay, int | float) and self.weight_decay == 0:
            return gradient
        return trees.tree_map(lambda g, p: g + self.weight_decay * p, gradient, params)
