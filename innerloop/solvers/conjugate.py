"""Linear conjugate gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.base import QuadraticProblem
from innerloop.solvers.base import Solver, StepStats, quotient, report, safe_quotient
from innerloop.solvers.preconditioners import Preconditioning, as_preconditioner
from innerloop.trees import Tree


class _State(NamedTuple):
    prediction: Tensor | None
    direction: Tree
    previous_square: Tensor
    floor: Tensor
    prepared: Any
    """What the preconditioner needs."""


class ConjugateGradient(Solver):
    """Conjugate gradients for problems whose gradient is linear, two linear maps per step.

    The gradient is recomputed from the prediction in every step instead of by the usual recursion:
    this costs no more, since the prediction is known, and does not drift from the true gradient. A
    problem whose gradient has fallen to machine precision, relative to its first one, stays put. If
    the Hessian is indefinite, the steps continue along directions of negative curvature too, and
    reach the point where the gradient vanishes; only a direction without curvature ends them.

    Args:
        preconditioner: an approximate inverse of the Hessian, symmetric positive definite: `Jacobi`
            or `Nystrom`, or a function that maps a gradient to it times the gradient. Default: the
            identity.

    Source:
        Hestenes and Stiefel, Methods of Conjugate Gradients for Solving Linear Systems, 1952
        (Fletcher-Reeves coefficient); on least squares: Björck, Numerical Methods for Least Squares
        Problems, 1996, section 7.4 (CGLS).
    """

    solves = QuadraticProblem

    def __init__(self, preconditioner: Preconditioning = None) -> None:
        self.preconditioner = as_preconditioner(preconditioner)

    def init(self, problem: QuadraticProblem, params: Tree) -> _State:
        leaf = trees.leaves(params)[0]
        none_yet = torch.zeros(problem.batch_shape, dtype=leaf.dtype, device=leaf.device)
        prediction = problem.predict(params)
        prepared = self.preconditioner.prepare(problem, params)
        return _State(prediction, trees.zeros_like(params), none_yet, none_yet - 1, prepared)

    def step(
        self, problem: QuadraticProblem, params: Tree, state: _State
    ) -> tuple[Tree, _State, StepStats]:
        loss, gradient = problem.evaluate(params, state.prediction)
        slope = self.preconditioner.apply(state.prepared, gradient)
        square = problem.dot(gradient, slope)
        precision = torch.finfo(square.dtype).eps ** 2
        floor = torch.where(state.floor < 0, precision * square.detach(), state.floor)
        keep = safe_quotient(square, state.previous_square)
        direction = trees.add_scaled(trees.negative(slope), keep, state.direction)
        response = problem.respond(params, direction)
        # Below the floor there is only rounding, where derivatives of the quotient explode.
        curvature = problem.curvature(direction, response).masked_fill(square <= floor, 0.0)
        slope_along = -problem.dot(gradient, direction)
        step_size = quotient(slope_along, curvature, curvature == 0)
        moved = trees.add_scaled(params, step_size, direction)
        prediction = problem.move(state.prediction, step_size, response)
        state = _State(prediction, direction, square, floor, state.prepared)
        return moved, state, report(problem, loss, gradient, step_size)
