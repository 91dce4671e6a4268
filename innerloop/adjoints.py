"""Adjoints: how the outer gradient comes back through an inner solve."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Adjoint(ABC):
    """The rule by which the outer gradient passes through the loop of inner steps."""

    @abstractmethod
    def run(self, loop: Callable[[Tensor], Result], init: Tensor) -> Result:
        """Run `loop` from `init` so that its result carries the gradient that this rule gives."""


class Unroll(Adjoint):
    """Differentiate through every step: the exact gradient, at memory linear in the steps."""

    def run(self, loop: Callable[[Tensor], Result], init: Tensor) -> Result:
        return loop(init)


class Detach(Adjoint):
    """No gradient: the solution is a constant, for inference or where only its value is wanted."""

    def run(self, loop: Callable[[Tensor], Result], init: Tensor) -> Result:
        with torch.no_grad():
            return loop(init.detach())
