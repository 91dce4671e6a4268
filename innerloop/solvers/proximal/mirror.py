"""Mirror descent on the simplex."""

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop.problems.base import Solvable
from innerloop.problems.composite import Composite
from innerloop.problems.nonsmooth import Simplex
from innerloop.problems.nonsmooth.base import broadcast
from innerloop.solvers.proximal.gradient import ProximalGradient, ProximalState
from innerloop.trees import Tree


class MirrorDescent(ProximalGradient):
    """Mirror descent with the entropy, on the simplex: p ← p exp(−η ∇f(p)), scaled to its total.

    Parameters stay positive; those that the minimum has at zero come close at a geometric rate.
    Known as the exponentiated gradient.

    Args:
        rate: η, at most 1 / L for a gradient with Lipschitz constant L with respect to the norm
            |·|₁, see `ProximalGradient`. Default 0.01.

    Source:
        Beck and Teboulle, Mirror Descent and Nonlinear Projected Subgradient Methods for Convex
        Optimization, 2003, section 5; Kivinen and Warmuth, Exponentiated Gradient versus Gradient
        Descent for Linear Predictors, 1997.
    """

    def check(self, problem: Solvable) -> None:
        super().check(problem)
        assert isinstance(problem, Composite)
        for term in trees.leaves(problem.term):
            if not isinstance(term, Simplex):
                raise TypeError(
                    f"solver: MirrorDescent solves a Composite with Simplex() for its term, not "
                    f"{type(term).__name__}; ProximalGradient and FISTA take any term"
                )

    def init(self, problem: Composite, params: Tree) -> ProximalState:
        for term, (name, leaf) in zip(
            problem.terms(params), trees.named_leaves(params), strict=True
        ):
            assert isinstance(term, Simplex)
            # A parameter of zero never moves; a vector of zeros has no share to scale.
            if not transforming() and bool((leaf < 0).any() | (leaf == 0).all(term.dim).any()):
                where = f"init[{name!r}]" if name else "init"
                raise ValueError(
                    f"{where}: has negative entries, or a vector of zeros, should be positive: "
                    "MirrorDescent multiplies it"
                )
        return super().init(problem, params)

    def reach(self, problem: Composite, params: Tree, gradient: Tree, sizes: list[Tensor]) -> Tree:
        leaves, spec = trees.flatten(params)
        moved = []
        for term, leaf, part, size in zip(
            problem.terms(params), leaves, trees.leaves(gradient), sizes, strict=True
        ):
            assert isinstance(term, Simplex)
            zero = leaf == 0
            logits = torch.where(zero, 1.0, leaf).log() - trees.per_problem(size, leaf) * part
            shares = logits.masked_fill(zero, -torch.inf).softmax(term.dim)
            moved.append(broadcast(term.total, leaf, len(problem.batch_shape)) * shares)
        return trees.unflatten(moved, spec)
