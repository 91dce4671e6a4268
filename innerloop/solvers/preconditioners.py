"""Preconditioners: approximate inverses of a Hessian, made once for a linear system."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from innerloop import trees
from innerloop.problems.base import QuadraticProblem
from innerloop.problems.checks import check_whole, named
from innerloop.solvers.adaptive.averages import smooth_sqrt
from innerloop.solvers.base import quotient
from innerloop.solvers.probing import hadamard, on_vectors, products
from innerloop.trees import Tree


class Preconditioner(ABC):
    """An approximate inverse of the Hessian of a quadratic problem, positive definite."""

    @abstractmethod
    def prepare(self, problem: QuadraticProblem, params: Tree) -> Any:
        """The tensors that `apply` needs, a tree; called once per solve."""

    @abstractmethod
    def apply(self, prepared: Any, vector: Tree) -> Tree:
        """The approximate inverse times a vector, structured like the parameters."""


Preconditioning = Preconditioner | Callable[[Tree], Tree] | None
"""A preconditioner, a function that applies one, or None for the identity."""


class _Known(Preconditioner):
    """A function that applies an approximate inverse."""

    def __init__(self, function: Callable[[Tree], Tree]) -> None:
        self.function = function

    def prepare(self, problem: QuadraticProblem, params: Tree) -> None:
        return None

    def apply(self, prepared: None, vector: Tree) -> Tree:
        return self.function(vector)


def as_preconditioner(preconditioner: Preconditioning) -> Preconditioner:
    """The preconditioner; TypeError if it is none and no function."""
    if isinstance(preconditioner, Preconditioner):
        return preconditioner
    if preconditioner is None:
        return _Known(lambda vector: vector)
    if isinstance(preconditioner, type) or not callable(preconditioner):
        raise TypeError(
            f"preconditioner: {named(preconditioner)}, should be a Preconditioner such as Jacobi() "
            "or a function of a gradient"
        )
    return _Known(preconditioner)


class Jacobi(Preconditioner):
    """The diagonal of the Hessian, estimated from a few products with vectors of signs.

    The estimate is exact for at least as many probes as parameters, and for a Hessian that is zero
    beyond a band as wide as the number of probes. With fewer probes no entry counts as less than
    its standard error, so that one that is near zero by chance does no harm. Negative entries count
    with their size, and rows without curvature stay as they are.

    Args:
        probes: number of products, rounded up to a power of 2. Default 16.

    Source:
        Bekas et al., An Estimator for the Diagonal of a Matrix, Applied Numerical Mathematics 2007
        (Hadamard vectors).
    """

    def __init__(self, probes: int = 16) -> None:
        check_whole("probes", probes, 1)
        self.probes = 1 << (probes - 1).bit_length()

    def prepare(self, problem: QuadraticProblem, params: Tree) -> Tree:
        batch_dims = len(problem.batch_shape)
        flat = trees.ravel(params, batch_dims)
        signs = hadamard(flat.shape[-1], self.probes, flat)
        product = on_vectors(problem.gauss_newton_operator(params), params, batch_dims)
        image = products(product, signs, flat)
        size = (signs * image).mean(-1).abs()
        if self.probes < len(signs):
            size = torch.maximum(size, smooth_sqrt(image.square().mean(-1) / self.probes))
        inverse = quotient(torch.ones_like(size), size, size == 0)
        return trees.unravel(inverse, params, batch_dims)

    def apply(self, prepared: Tree, vector: Tree) -> Tree:
        return trees.tree_map(torch.mul, prepared, vector)
