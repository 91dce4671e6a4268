"""What every solver offers to the loop in `innerloop.solve`."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from innerloop.problems import Problem


class StepStats(NamedTuple):
    """What a step reports, each entry of the problem's `batch_shape`."""

    loss: Tensor
    """Objective at the parameters that the step started from."""
    gradient_norm: Tensor
    """Norm of the gradient at the parameters that the step started from."""
    step_size: Tensor
    """Multiple of the direction that was taken."""


class Solver(ABC):
    """An iterative (or direct) method: a state, and a step that returns the next parameters.

    A step never changes its arguments in place, and it is built of differentiable torch operations.
    """

    direct: ClassVar[bool] = False
    """Whether a single step reaches the solution, so that further steps are pointless."""

    @abstractmethod
    def init(self, problem: Problem, params: Tensor) -> Any:
        """State before the first step from `params`."""

    @abstractmethod
    def step(self, problem: Problem, params: Tensor, state: Any) -> tuple[Tensor, Any, StepStats]:
        """Return the next parameters, the next state and what the step reports."""


def safe_quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient that is zero, with a zero derivative, where the denominator is not positive.

    A vanishing denominator means that nothing is left to do: at the solution there is no direction
    to take. A NaN stays one.
    """
    empty = denominator <= 0
    return torch.where(empty, 0.0, numerator / torch.where(empty, 1.0, denominator))
