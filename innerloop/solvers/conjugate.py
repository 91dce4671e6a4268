"""Linear conjugate gradients on the normal equations."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.problems import Problem
from innerloop.solvers.base import Solver, StepStats, safe_quotient


class _State(NamedTuple):
    prediction: Tensor
    direction: Tensor
    previous_square: Tensor


class ConjugateGradient(Solver):
    """Conjugate gradients for linear least squares, two convolutions a step.

    The gradient is recomputed from the prediction in every step instead of by the usual recursion:
    it costs nothing more, since the prediction is at hand, and does not drift from the true one.

    Source:
        Hestenes and Stiefel, Methods of Conjugate Gradients for Solving Linear Systems, 1952
        (Fletcher-Reeves coefficient); on least squares: Björck, Numerical Methods for Least Squares
        Problems, 1996, section 7.4 (CGLS).
    """

    def init(self, problem: Problem, params: Tensor) -> _State:
        none_yet = torch.zeros(problem.batch_shape, dtype=params.dtype, device=params.device)
        return _State(problem.predict(params), torch.zeros_like(params), none_yet)

    def step(
        self, problem: Problem, params: Tensor, state: _State
    ) -> tuple[Tensor, _State, StepStats]:
        gradient = problem.gradient(params, state.prediction)
        square = problem.dot(gradient, gradient)
        keep = problem.per_problem(safe_quotient(square, state.previous_square), params)
        direction = keep * state.direction - gradient
        response = problem.predict(direction)
        step_size = safe_quotient(
            -problem.dot(gradient, direction), problem.curvature(direction, response)
        )
        stats = StepStats(
            problem.loss(params, state.prediction).detach(),
            square.detach().sqrt(),
            step_size.detach(),
        )
        params = params + problem.per_problem(step_size, params) * direction
        prediction = state.prediction + problem.per_problem(step_size, response) * response
        return params, _State(prediction, direction, square), stats
