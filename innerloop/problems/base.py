"""The interfaces of problems, from the weakest to the strongest structure."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from innerloop import _autodiff as autodiff
from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.problems.checks import check_parameter
from innerloop.trees import Tree


class Solvable(ABC):
    """A batch of independent problems, each with a condition that its solution meets: F(p) = 0."""

    batch_shape: torch.Size = torch.Size()
    """Leading dimensions of every parameter; each entry is an independent problem."""

    symmetric: ClassVar[bool] = False
    """Whether the derivative of F is symmetric."""

    solved_by: ClassVar[str]
    """Names of solvers that solve any problem of this kind, for messages."""

    @abstractmethod
    def loss(self, params: Tree) -> Tensor:
        """What solvers report per problem, shape `batch_shape`; least at a solution."""

    @abstractmethod
    def value_and_condition(self, params: Tree) -> tuple[Tensor, Tree]:
        """Loss per problem and F, structured like `params`."""

    @abstractmethod
    def condition_operator(self, params: Tree, transposed: bool = False) -> Operator:
        """The map from a direction to the derivative of F at `params`, or its transpose, times it.

        It is differentiable where gradients are on.
        """

    changing: bool = False
    """Whether the problem of the step before may be another one, of which nothing is to be used."""

    def at(self, step: int) -> "Solvable":
        """The problem that step number `step` of a solve sees, counted from 0. Default: itself."""
        return self

    def after(self, steps: int) -> "Solvable":
        """The problem of a solve that goes on after so many steps. Default: itself."""
        return self

    def aux(self, params: Tree) -> Any:
        """What the loss returns at `params` besides its value. Default: nothing, None."""
        return None

    def check(self, params: Tree) -> None:
        """Raise TypeError or ValueError if `params` do not fit this problem."""
        if not trees.leaves(params):
            raise ValueError("init: holds no tensor, should hold at least one")
        for name, leaf in trees.named_leaves(params):
            where = f"init[{name!r}]" if name else "init"
            check_parameter(where, leaf)
            if leaf.shape[: len(self.batch_shape)] != self.batch_shape:
                raise ValueError(
                    f"{where}: shape {tuple(leaf.shape)}, should begin with the batch shape "
                    f"{tuple(self.batch_shape)}"
                )
        if all(leaf.shape[len(self.batch_shape) :].numel() == 0 for leaf in trees.leaves(params)):
            raise ValueError("init: all tensors are empty, should hold at least one parameter")

    def dot(self, a: Tree, b: Tree) -> Tensor:
        """Inner product of two parameter-like trees per problem, shape `batch_shape`."""
        return trees.dot(a, b, len(self.batch_shape))


class Problem(Solvable):
    """A batch of independent minimisation problems, each with a scalar loss of its parameters.

    Its condition is that the gradient vanishes.
    """

    symmetric = True
    solved_by = "GradientDescent, Adam and Newton"

    @abstractmethod
    def loss(self, params: Tree) -> Tensor:
        """Value of the objective per problem, shape `batch_shape`."""

    def value_and_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        """Loss per problem and its gradient, structured like `params`."""
        return autodiff.value_and_gradient(self.loss, params)

    def value_and_partial_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        """`value_and_gradient`, but with None for tensors known not to take part in the loss."""
        return self.value_and_gradient(params)

    def hessian_operator(self, params: Tree) -> Operator:
        """The map from a direction to the Hessian at `params` times it."""
        return autodiff.hessian_operator(self.loss, params)

    def value_and_condition(self, params: Tree) -> tuple[Tensor, Tree]:
        return self.value_and_gradient(params)

    def condition_operator(self, params: Tree, transposed: bool = False) -> Operator:
        return self.hessian_operator(params)


class CurvedProblem(Problem):
    """A problem with a positive semi-definite (Gauss-Newton) curvature J'J.

    A solver that moves along a direction d knows its *response* J d, which gives the curvature
    along d and, if J is constant, the *prediction* at the next parameters.
    """

    @abstractmethod
    def predict(self, params: Tree) -> Tensor | None:
        """What `evaluate` can reuse at `params`; None if J changes with the parameters."""

    @abstractmethod
    def evaluate(self, params: Tree, prediction: Tensor | None) -> tuple[Tensor, Tree]:
        """Loss and gradient at `params`, where `prediction = predict(params)`."""

    @abstractmethod
    def respond(self, params: Tree, direction: Tree) -> Tree:
        """J d at `params`, for the direction d."""

    @abstractmethod
    def curvature(self, direction: Tree, response: Tree, square: Tensor | None = None) -> Tensor:
        """d' J'J d per problem, shape `batch_shape`.

        Args:
            direction: d.
            response: J d.
            square: |d|² per problem, where it is known.
        """

    @abstractmethod
    def gauss_newton_operator(self, params: Tree) -> Operator:
        """The map from a direction d to J'J d at `params`."""

    def move(self, prediction: Tensor | None, step_size: Tensor, response: Tree) -> Tensor | None:
        """The prediction after a step of `step_size` along the direction of `response`."""
        if prediction is None:
            return None
        return trees.add_scaled(prediction, step_size, response)  # type: ignore[no-any-return]

    def value_and_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        return self.evaluate(params, self.predict(params))


class LinearProblem(Solvable):
    """A problem whose condition is a square system of linear equations, F(p) = A p − b."""

    @abstractmethod
    def loss_from(self, start: Tensor, change: Tree, before: Tree, after: Tree) -> Tensor:
        """Loss after a change of the parameters, without evaluating the problem.

        Args:
            start: loss before the change.
            change: of the parameters.
            before, after: F before and after it.
        """


class QuadraticProblem(CurvedProblem, LinearProblem):
    """A problem whose gradient is linear in its parameters: J is constant, J'J is the Hessian."""

    def loss_from(self, start: Tensor, change: Tree, before: Tree, after: Tree) -> Tensor:
        # The trapezoidal rule is exact for a linear gradient.
        return start + 0.5 * self.dot(change, trees.add(before, after))

    def hessian_operator(self, params: Tree) -> Operator:
        return self.gauss_newton_operator(params)


class ClosedFormProblem(QuadraticProblem):
    """A regularised quadratic problem whose Hessian is at hand as a matrix for each output."""

    regularization: Tensor

    @abstractmethod
    def normal_equations(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The linear system (H + λ) p = b that the minimum solves.

        Args:
            like: a tensor shaped like the parameters.

        Returns:
            H, shape (*batch, D or 1, columns, columns), 1 where the D outputs share it; and b,
            shape (*batch, D, columns, 1). The solution, shaped like b, reshapes to the parameters.
        """


class Quadratic(QuadraticProblem):
    """The quadratic form ½ p'Hp − b'p, whose minimum solves the linear system H p = b.

    Args:
        operator: H as a map between parameter-like trees; symmetric positive semi-definite.
        right: b, structured like the parameters.
        batch_shape: leading dimensions of every leaf; each entry is an independent system. Default
            ().
    """

    def __init__(self, operator: Operator, right: Tree, batch_shape: tuple[int, ...] = ()) -> None:
        self.operator = operator
        self.right = right
        self.batch_shape = torch.Size(batch_shape)

    def loss(self, params: Tree) -> Tensor:
        return 0.5 * self.dot(params, self.operator(params)) - self.dot(params, self.right)

    def predict(self, params: Tree) -> Tree:
        return self.operator(params)

    def evaluate(self, params: Tree, prediction: Tree) -> tuple[Tensor, Tree]:
        loss = 0.5 * self.dot(params, prediction) - self.dot(params, self.right)
        return loss, trees.tree_map(torch.sub, prediction, self.right)

    def respond(self, params: Tree, direction: Tree) -> Tree:
        return self.operator(direction)

    def curvature(self, direction: Tree, response: Tree, square: Tensor | None = None) -> Tensor:
        return self.dot(direction, response)

    def gauss_newton_operator(self, params: Tree) -> Operator:
        return self.operator
