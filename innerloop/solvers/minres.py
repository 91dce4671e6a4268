"""The minimum residual method for symmetric systems, which may be indefinite."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.base import QuadraticProblem
from innerloop.solvers.adaptive.averages import smooth_sqrt
from innerloop.solvers.base import Solver, StepStats, quotient, report
from innerloop.solvers.preconditioners import Preconditioning, as_preconditioner
from innerloop.trees import Tree


class _Lanczos(NamedTuple):
    """The last two vectors of Lanczos's process."""

    before: Tree
    vector: Tree
    preconditioned: Tree
    length: Tensor
    """β, by which `vector` was divided."""


class _Rotation(NamedTuple):
    """The last plane rotation of the QR factorisation of the tridiagonal matrix."""

    cosine: Tensor
    sine: Tensor
    next: Tensor
    """Entry of the next column that the next rotation takes (δ̄)."""
    after: Tensor
    """Entry of the next column that is final (ε)."""


class _State(NamedTuple):
    loss: Tensor
    gradient: Tree
    lanczos: _Lanczos
    rotation: _Rotation
    before: Tree
    """The direction of the step before the last."""
    direction: Tree
    residual: Tensor
    """φ̄, the norm of the residual; zero once nothing is left to do."""
    first: Tensor
    scale: Tensor
    """The largest entry of the tridiagonal matrix."""
    prepared: Any


class MINRES(Solver):
    """The minimum residual method: conjugate gradients for symmetric, possibly indefinite systems.

    Every step makes the norm of the gradient least over all parameters that so many products with
    the Hessian can reach, so that it never rises; one product per step. Where the Hessian is
    singular, a system without a solution is solved in the sense of least squares. A problem whose
    gradient has fallen to machine precision, relative to its first one, stays put.

    Args:
        preconditioner: an approximate inverse of the Hessian, symmetric positive definite: `Jacobi`
            or `Nystrom`, or a function that maps a gradient to it times the gradient. The norm that
            steps make least is then weighted by it; one that is not positive definite ends in
            `Status.NOT_FINITE`. Default: the identity.

    Source:
        Paige and Saunders, Solution of Sparse Indefinite Systems of Linear Equations, SIAM Journal
        on Numerical Analysis 1975, section 6; preconditioned: Elman, Silvester and Wathen, Finite
        Elements and Fast Iterative Solvers, 2014, algorithm 4.1.
    """

    solves = QuadraticProblem

    def __init__(self, preconditioner: Preconditioning = None) -> None:
        self.preconditioner = as_preconditioner(preconditioner)

    def init(self, problem: QuadraticProblem, params: Tree) -> _State:
        loss, gradient = problem.value_and_gradient(params)
        prepared = self.preconditioner.prepare(problem, params)
        nothing, zero = trees.zeros_like(params), torch.zeros_like(loss)
        lanczos = self._next(problem, prepared, nothing, trees.negative(gradient), zero)
        rotation = _Rotation(zero - 1, zero, zero, zero)
        first = lanczos.length
        return _State(
            *(loss, gradient, lanczos, rotation, nothing, nothing, first, first.detach(), zero),
            prepared,
        )

    def _next(
        self, problem: QuadraticProblem, prepared: Any, before: Tree, vector: Tree, floor: Tensor
    ) -> _Lanczos:
        """The process goes on with a vector, which is zero if it is not longer than `floor`."""
        preconditioned = self.preconditioner.apply(prepared, vector)
        square = problem.dot(vector, preconditioned)
        length = smooth_sqrt(square)
        length = torch.where(length <= floor, 0.0, length)
        # The preconditioner is not positive definite.
        length = torch.where(square < -floor.square(), torch.nan, length)
        divisor = quotient(torch.ones_like(length), length, length == 0)
        vector, preconditioned = (trees.scale(divisor, v) for v in (vector, preconditioned))
        return _Lanczos(before, vector, preconditioned, length)

    def step(
        self, problem: QuadraticProblem, params: Tree, state: _State
    ) -> tuple[Tree, _State, StepStats]:
        lanczos, last, residual = state.lanczos, state.rotation, state.residual
        eps = torch.finfo(residual.dtype).eps
        done = residual.abs() <= 10 * eps * state.first

        image = problem.gauss_newton_operator(params)(lanczos.preconditioned)
        along = problem.dot(lanczos.preconditioned, image)
        image = trees.add_scaled(image, -along, lanczos.vector)
        image = trees.add_scaled(image, -lanczos.length, lanczos.before)
        largest = torch.maximum(along.detach().abs(), lanczos.length.detach())
        scale = torch.maximum(state.scale, torch.where(done, 0.0, largest))
        floor = torch.where(done, torch.inf, 10 * eps * scale)
        following = self._next(problem, state.prepared, lanczos.vector, image, floor)

        above = last.cosine * last.next + last.sine * along
        diagonal = last.sine * last.next - last.cosine * along
        length = smooth_sqrt(diagonal.square() + following.length.square())
        # |H r| / |r|: where it vanishes, the system has no solution, and this is the best there is.
        slope = torch.hypot(diagonal.detach(), (last.cosine * following.length).detach())
        flat = done | (slope <= eps**0.75 * scale)
        cosine = quotient(diagonal, length, flat)
        sine = torch.where(flat, 1.0, quotient(following.length, length, flat))
        rotation = _Rotation(
            cosine, sine, -last.cosine * following.length, last.sine * following.length
        )

        direction = trees.add_scaled(lanczos.preconditioned, -last.after, state.before)
        direction = trees.add_scaled(direction, -above, state.direction)
        direction = trees.scale(quotient(torch.ones_like(length), length, flat), direction)
        step_size = cosine * residual
        moved = trees.add_scaled(params, step_size, direction)
        gradient = trees.scale(sine.square(), state.gradient)
        gradient = trees.add_scaled(gradient, sine * residual * cosine, following.vector)
        # The mean of the gradients at both ends: the loss is quadratic.
        rise = problem.dot(trees.add(state.gradient, gradient), direction)
        loss = state.loss + 0.5 * step_size * rise

        reached = _State(
            *(loss, gradient, following, rotation, state.direction, direction),
            *(torch.where(flat, 0.0, sine * residual), state.first, scale, state.prepared),
        )
        return moved, reached, report(problem, state.loss, state.gradient, step_size)
