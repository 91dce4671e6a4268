"""A smooth problem plus a nonsmooth term, or under constraints."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator, value_and_pullback
from innerloop.problems.base import Problem, Solvable
from innerloop.problems.checks import named
from innerloop.problems.nonsmooth import Nonsmooth
from innerloop.problems.objective import as_smooth
from innerloop.trees import Tree


class Composite(Solvable):
    """The sum f(p) + g(p) of a smooth problem f and a nonsmooth term g, or f on a convex set.

    A minimum is a fixed point of proximal gradient steps: F(p) = (p − prox_ηg(p − η ∇f(p))) / η
    vanishes, for any η above 0. F is the gradient where there is no term; solvers report its norm.
    `Implicit()` differentiates this condition, exactly unless F has a kink there: where a parameter
    lies on a bound, say, though no gradient pushes it.

    Args:
        problem: f, a `Problem` or a function from parameters to a scalar loss.
        term: g, a term such as `L1(0.1)` or a set such as `Simplex()`, for each tensor of the
            parameters; or a tree of these, structured like the parameters, with None for tensors
            that have no term.
        size: η of the condition, above 0: a number, or a tensor of shape () or `batch_shape`. Its
            zeros do not depend on it; the linear system of an implicit gradient is best conditioned
            where it is about 1 / |H| of f. Default 1.

    Source:
        Parikh and Boyd, Proximal Algorithms, 2014, section 4.2; Bertrand et al., Implicit
        Differentiation for Fast Hyperparameter Selection in Non-smooth Convex Learning, JMLR 2022.
    """

    solved_by = "ProximalGradient and FISTA"

    def __init__(
        self,
        problem: Problem | Callable[[Tree], Tensor],
        term: Nonsmooth | Tree,
        *,
        size: float | Tensor = 1.0,
    ) -> None:
        self.problem = as_smooth(problem)
        self.batch_shape = self.problem.batch_shape
        for entry in trees.leaves(term):
            if entry is not None and not isinstance(entry, Nonsmooth):
                raise TypeError(f"term: {named(entry)}, should be a term such as L1(0.1), or None")
        self.term = term
        shape = size.shape if isinstance(size, Tensor) else torch.Size()
        if shape not in (torch.Size(), self.batch_shape):
            raise ValueError(
                f"size: shape {tuple(shape)}, should be () or the batch shape "
                f"{tuple(self.batch_shape)}"
            )
        if not isinstance(size, Tensor) and not size > 0:
            raise ValueError(f"size: {size}, should be above 0")
        self.size = torch.as_tensor(size, dtype=torch.float64).detach()

    def check(self, params: Tree) -> None:
        self.problem.check(params)
        for term, (name, leaf) in zip(self.terms(params), trees.named_leaves(params), strict=True):
            if term is not None:
                where = f"init[{name!r}]" if name else "init"
                term.check(where, leaf, len(self.batch_shape))

    def terms(self, params: Tree) -> list[Nonsmooth | None]:
        """The term of each tensor, in order."""
        if isinstance(self.term, Nonsmooth):
            return [self.term] * len(trees.leaves(params))
        return trees.leaves_like("term", self.term, params)

    def loss(self, params: Tree) -> Tensor:
        return self.plus_term(self.problem.loss(params), params)

    def aux(self, params: Tree) -> Any:
        return self.problem.aux(params)

    def plus_term(self, loss: Tensor, params: Tree) -> Tensor:
        """f + g, for a loss f."""
        for term, leaf in zip(self.terms(params), trees.leaves(params), strict=True):
            if term is not None:
                loss = loss + term.value(leaf, len(self.batch_shape))
        return loss

    def prox(self, params: Tree, sizes: Any) -> Tree:
        """prox_ηg, for sizes η like those of `descend`."""
        leaves, spec = trees.flatten(params)
        moved = [
            leaf if term is None else term.prox(leaf, size, len(self.batch_shape))
            for term, leaf, size in zip(self.terms(params), leaves, sizes, strict=True)
        ]
        return trees.unflatten(moved, spec)

    def descend(self, params: Tree, gradient: Tree, sizes: list[Tensor]) -> Tree:
        """The proximal gradient step prox_ηg(p − η ∇f), for a size η of each tensor."""
        leaves, spec = trees.flatten(params)
        ahead = [
            torch.addcmul(leaf, trees.per_problem(size, leaf), part, value=-1)
            for leaf, part, size in zip(leaves, trees.leaves(gradient), sizes, strict=True)
        ]
        return self.prox(trees.unflatten(ahead, spec), sizes)

    def condition(self, params: Tree, gradient: Tree) -> Tree:
        """F, where the gradient of f is known."""
        reached = self.descend(params, gradient, self._sizes(params))
        return trees.scale(1 / self.size, trees.tree_map(torch.sub, params, reached))

    def value_and_condition(self, params: Tree) -> tuple[Tensor, Tree]:
        loss, gradient = self.problem.value_and_gradient(params)
        return self.plus_term(loss, params), self.condition(params, gradient)

    def condition_operator(self, params: Tree, transposed: bool = False) -> Operator:
        # It is (I − D (I − η H)) / η, where D, the derivative of the prox, is symmetric, too.
        _, gradient = self.problem.value_and_gradient(params)
        ahead = trees.add_scaled(params, -self._sizes(params)[0], gradient)
        through = value_and_pullback(lambda at: self.prox(at, self._sizes(at)), ahead)[1]
        hessian = self.problem.hessian_operator(params)

        def step(direction: Tree) -> Tree:
            return trees.add_scaled(direction, -self._sizes(params)[0], hessian(direction))

        def operator(direction: Tree) -> Tree:
            changed = step(through(direction)) if transposed else through(step(direction))
            return trees.scale(1 / self.size, trees.tree_map(torch.sub, direction, changed))

        return operator

    def _sizes(self, params: Tree) -> list[Tensor]:
        leaves = trees.leaves(params)
        return [self.size.to(leaves[0])] * len(leaves)
