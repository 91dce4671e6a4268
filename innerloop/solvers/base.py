"""The interface of solvers to the loop of inner steps."""

from abc import ABC, abstractmethod
from inspect import isabstract
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.base import Problem, Solvable
from innerloop.problems.checks import named
from innerloop.trees import Tree

_NUMBERS = (Tensor, Real, torch.SymFloat, torch.SymInt)


class StepStats(NamedTuple):
    """The report of a step; each entry has the problem's `batch_shape` and no gradient."""

    loss: Tensor
    """Objective at the parameters that the step started from."""
    gradient_norm: Tensor
    """Norm of the gradient, or of what vanishes at a solution, at the same parameters."""
    step_size: Tensor
    """Multiple of the direction that was taken."""
    linear_residual: Tensor | None = None
    """|H u - b| / |b|, of a solver that solves one linear system H u = b per step."""


class TransformedProblem(Problem):
    """A problem in other coordinates.

    Attributes:
        start: vector to start from.
    """

    start: Any

    @abstractmethod
    def lift(self, vector: Any) -> tuple[Tree, Any]:
        """The parameters that a vector stands for, and the state to carry on from there."""


class Solver(ABC):
    """An iterative (or direct) method: a state, and a step that returns the next parameters.

    A step never changes its arguments in place, and it is built of differentiable torch operations.
    The state is a tree of tensors and numbers.
    """

    direct: ClassVar[bool] = False
    """Whether a single step reaches the solution, so that further steps are pointless."""

    state_follows_params: ClassVar[bool] = False
    """Whether the state that is handed on is a function of the final parameters. It then becomes
    invalid once an adjoint gives these another gradient."""

    solves: ClassVar[type[Solvable]] = Problem  # type: ignore[type-abstract]
    """The kind of problem whose structure the solver needs."""

    def check(self, problem: Solvable) -> None:
        """Raise TypeError if the problem lacks the structure that the solver needs."""
        if not isinstance(problem, self.solves):
            raise TypeError(
                f"solver: {type(self).__name__} solves {public_names(self.solves)}, not "
                f"{type(problem).__name__}, which {problem.solved_by} solve"
            )

    def coordinates(
        self, problem: Any, init: Tree, steps: int, carried: Any
    ) -> TransformedProblem | None:
        """The coordinates in which to take so many steps. Default: the problem's own, None."""
        return None

    def biased_by(self) -> str | None:
        """Name of the setting that moves the fixed point away from the minimum. Default: none."""
        return None

    @abstractmethod
    def init(self, problem: Any, params: Tree) -> Any:
        """State before the first step from `params`."""

    @abstractmethod
    def step(self, problem: Any, params: Tree, state: Any) -> tuple[Tree, Any, StepStats]:
        """Return the next parameters, the next state and what the step reports."""

    def finished(self, state: Any) -> Tensor | None:
        """Which problems further steps no longer change, shape `batch_shape`. Default: not known,
        None."""
        return None

    def carried(self, state: Any) -> Any:
        """The part of the last state from which a later solve can continue. Default: None."""
        return None

    def check_carried(self, problem: Any, params: Tree, carried: Any) -> None:
        """Raise TypeError or ValueError unless a solve can begin with this state at `params`."""
        if carried is None:
            raise TypeError(
                f"state: {type(self).__name__} starts from its parameters only, should be left out"
            )


def public_names(kind: type[Solvable]) -> str:
    """The problems of a kind that this package offers, by name."""

    def names(kind: type[Solvable]) -> list[str]:
        found = [name for child in kind.__subclasses__() for name in names(child)]
        offered = kind.__module__.startswith("innerloop.problems.") and not isabstract(kind)
        return [kind.__name__, *found] if offered else found

    return ", ".join(dict.fromkeys(names(kind)))


def report(
    problem: Solvable,
    loss: Tensor,
    gradient: Tree,
    step_size: Tensor,
    linear_residual: Tensor | None = None,
) -> StepStats:
    """The report of a step that started with this loss and gradient."""
    gradient = trees.detach(gradient)
    norm = problem.dot(gradient, gradient).sqrt()
    return StepStats(loss.detach(), norm, step_size.detach().expand_as(norm), linear_residual)


def safe_quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient that is zero, with a zero derivative, where the denominator is not positive.

    A zero denominator means that nothing is left to do: at the solution there is no direction to
    take. NaN is kept.
    """
    return quotient(numerator, denominator, denominator <= 0)


def quotient(numerator: Tensor, denominator: Tensor, empty: Tensor) -> Tensor:
    """Quotient that is zero where `empty`, with derivatives where these are numbers.

    Where the denominator is subnormal they overflow, and count as zero.
    """
    value = torch.where(empty, 0.0, numerator / torch.where(empty, 1.0, denominator))
    if not value.requires_grad:
        return value
    small = empty | (denominator.abs() < torch.finfo(denominator.dtype).tiny)
    smooth = numerator / torch.where(small, 1.0, denominator)
    return torch.where(small, value.detach(), smooth)


def check_not_negative(**values: object) -> None:
    """Raise for numbers, or trees of them, that are negative or NaN; tensors may be learned."""
    for name, value in values.items():
        leaves = (
            trees.named_leaves(value) if isinstance(value, (dict, list, tuple)) else [("", value)]
        )
        for path, leaf in leaves:
            where = f"{name}[{path!r}]" if path else name
            if isinstance(leaf, bool) or not isinstance(leaf, _NUMBERS):
                raise TypeError(f"{where}: {named(leaf)}, should be a number or a tensor")
            if not isinstance(leaf, Tensor) and not float(leaf) >= 0:
                raise ValueError(f"{where}: {leaf}, should not be negative")


def check_instance(name: str, value: object, kind: type, example: str) -> None:
    """Raise TypeError unless `value` is an instance of `kind`, such as `example`."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: {named(value)}, should be a {kind.__name__} such as {example}")
