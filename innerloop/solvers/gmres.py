"""The generalised minimal residual method for linear systems of any kind."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.base import LinearProblem
from innerloop.problems.checks import check_whole
from innerloop.solvers.base import Solver, StepStats, report
from innerloop.trees import Tree

_ROUNDING = 10
"""Multiple of the machine precision up to which what remains of a vector is rounding."""


class _Cycle(NamedTuple):
    """What is known since the last restart; vectors have shape (*batch, n)."""

    loss: Tensor
    condition: Tensor
    """A p - b at the parameters."""
    basis: tuple[Tensor, ...]
    """Orthonormal basis of the Krylov space, and the vector that extends it next."""
    images: tuple[Tensor, ...]
    """Orthonormal basis of A times the Krylov space."""
    directions: tuple[Tensor, ...]
    """What A maps to the images."""


class GMRES(Solver):
    """GMRES: after k steps |A p − b| is least among all points that k products with A reach.

    A may be indefinite or not symmetric; only products with it are taken, one per step. A step also
    moves the parameters, which takes an orthonormal basis of the images of the Krylov space beside
    that of the space itself: memory for 3 · restart vectors.

    Args:
        restart: number of steps after which it begins again from where it is. As many as there are
            parameters in a problem solve any system that is not singular. Default 20.

    Source:
        Saad and Schultz, GMRES: A Generalized Minimal Residual Algorithm for Solving Nonsymmetric
        Linear Systems, 1986; Walker and Zhou, A Simpler GMRES, 1994 (moving in every step).
    """

    solves = LinearProblem

    def __init__(self, restart: int = 20) -> None:
        check_whole("restart", restart, 1)
        self.restart = restart

    def init(self, problem: LinearProblem, params: Tree) -> _Cycle:
        batch_dims = len(problem.batch_shape)
        loss, condition = problem.value_and_condition(params)
        vector = trees.ravel(condition, batch_dims)
        return _Cycle(loss, vector, (_unit(vector, vector)[0],), (), ())

    def step(
        self, problem: LinearProblem, params: Tree, state: _Cycle
    ) -> tuple[Tree, _Cycle, StepStats]:
        if len(state.images) == self.restart:
            state = self.init(problem, params)

        def tree(vector: Tensor) -> Tree:
            return trees.unravel(vector, params, len(problem.batch_shape))

        newest = state.basis[-1]
        operator = problem.condition_operator(params)
        product = trees.ravel(operator(tree(newest)), len(problem.batch_shape))
        extended, _ = _unit(_less(product, state.basis)[0], product)
        image, shares = _less(product, state.images)
        image, length = _unit(image, product)
        direction = newest
        if state.directions:
            earlier = torch.stack(state.directions, -2)
            direction = newest - (shares.unsqueeze(-2) @ earlier).squeeze(-2)
        direction = direction / length

        size = -(image * state.condition).sum(-1)
        change = size.unsqueeze(-1) * direction
        condition = state.condition + size.unsqueeze(-1) * image
        before, after = tree(state.condition), tree(condition)
        loss = problem.loss_from(state.loss, tree(change), before, after)
        cycle = _Cycle(
            loss,
            condition,
            (*state.basis, extended),
            (*state.images, image),
            (*state.directions, direction),
        )
        return trees.add(params, tree(change)), cycle, report(problem, state.loss, before, size)


def _less(vector: Tensor, basis: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """A vector without its shares of an orthonormal basis, and these shares, (*batch, count)."""
    shares = vector.new_zeros(*vector.shape[:-1], len(basis))
    if not basis:
        return vector, shares
    rows = torch.stack(basis, -2)
    # Once is not enough: what remains may be small, and mostly rounding.
    for _ in range(2):
        found = (rows @ vector.unsqueeze(-1)).squeeze(-1)
        vector = vector - (found.unsqueeze(-2) @ rows).squeeze(-2)
        shares = shares + found
    return vector, shares


def _unit(vector: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """A vector of length one, zero if only rounding of its origin remains, and the old length."""
    least = _ROUNDING * torch.finfo(vector.dtype).eps * origin.detach().norm(dim=-1, keepdim=True)
    rest = vector.detach().norm(dim=-1, keepdim=True) <= least
    vector = torch.where(rest, 0.0, vector)
    length = torch.where(rest, 1.0, vector.square().sum(-1, keepdim=True)).sqrt()
    return vector / length, length
