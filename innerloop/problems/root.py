"""Systems of equations: a function whose zero, or whose fixed point, is wanted."""

from collections.abc import Callable

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator, value_and_pullback
from innerloop.problems.base import LinearProblem
from innerloop.problems.checks import named
from innerloop.problems.least_squares import LeastSquares
from innerloop.trees import Tree


class Root(LeastSquares):
    """A system of as many equations as unknowns, F(p) = 0.

    As a minimisation problem it is the least-squares problem ½ |F(p)|², so minimisers solve it,
    too. Solvers of equations do without its gradient; they report |F| as the gradient norm. A
    solution is where F vanishes: that is what `Implicit()` differentiates, and not a minimum of |F|
    above zero.

    Args:
        fn: F, maps parameters to a tree structured like them, of the same shapes. Tensors that it
            closes over receive the outer gradient.
        batch_shape: leading dimensions of every parameter if `fn` computes a batch of independent
            systems. Default (): one system.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, chapter 11.
    """

    symmetric = False
    solved_by = "NewtonRaphson, Broyden and LevenbergMarquardt"

    def __init__(self, fn: Callable[[Tree], Tree], batch_shape: tuple[int, ...] = ()) -> None:
        if not callable(fn):
            raise TypeError(f"fn: {named(fn)}, should be a function of the parameters")
        super().__init__(fn, batch_shape=batch_shape)

    def image(self, params: Tree) -> Tree:
        """What the function returns, in the dtypes of the parameters.

        Raises:
            TypeError, ValueError: it is not structured like the parameters.
        """
        image = self.residual_fn(params)
        parts = trees.leaves_like("fn: its result", image, params)
        leaves, spec = trees.flatten(params)
        for part, leaf in zip(parts, leaves, strict=True):
            if not isinstance(part, Tensor):
                raise TypeError(f"fn: returned {named(part)}, should return a tensor")
            if part.shape != leaf.shape:
                raise ValueError(
                    f"fn: returned shape {tuple(part.shape)}, should be that of the parameters, "
                    f"{tuple(leaf.shape)}"
                )
        # Under autocast, or where it mixes precisions, it may return others.
        pairs = zip(parts, leaves, strict=True)
        return trees.unflatten([part.to(leaf.dtype) for part, leaf in pairs], spec)

    def residual(self, params: Tree) -> Tree:
        """F at `params`."""
        return self.image(params)

    def value_and_condition(self, params: Tree) -> tuple[Tensor, Tree]:
        residual = self.residual(params)
        return 0.5 * self.dot(residual, residual), residual

    def condition_operator(self, params: Tree, transposed: bool = False) -> Operator:
        if transposed:
            return value_and_pullback(self.residual, params)[1]
        return lambda direction: self.respond(params, direction)


class FixedPoint(Root):
    """A fixed point p = f(p), such as the output of a deep-equilibrium model.

    As a system of equations it is F(p) = p − f(p).

    Args:
        fn: f, maps parameters to a tree structured like them, of the same shapes. Tensors that it
            closes over receive the outer gradient.
        batch_shape: leading dimensions of every parameter if `fn` maps a batch of independent
            problems, such as the samples of a batch. Default (): one problem.

    Source:
        Bai et al., Deep Equilibrium Models, NeurIPS 2019.
    """

    solved_by = "Anderson, FixedPointIteration and NewtonRaphson"

    def residual(self, params: Tree) -> Tree:
        """F at `params`."""
        return trees.tree_map(torch.sub, params, self.image(params))


class LinearSystem(Root, LinearProblem):
    """A system of linear equations A p = b, whose A need not be symmetric.

    Args:
        operator: A as a map between parameter-like trees.
        right: b, structured like the parameters.
        batch_shape: leading dimensions of every leaf; each entry is an independent system. Default
            ().
    """

    solved_by = "GMRES, Exact and LevenbergMarquardt"

    def __init__(self, operator: Operator, right: Tree, batch_shape: tuple[int, ...] = ()) -> None:
        super().__init__(operator, batch_shape)
        self.operator = operator
        self.right = right

    def residual(self, params: Tree) -> Tree:
        """A p − b."""
        return trees.tree_map(torch.sub, self.image(params), self.right)

    def condition_operator(self, params: Tree, transposed: bool = False) -> Operator:
        return super().condition_operator(params, transposed) if transposed else self.operator

    def loss_from(self, start: Tensor, change: Tree, before: Tree, after: Tree) -> Tensor:
        return 0.5 * self.dot(after, after)
