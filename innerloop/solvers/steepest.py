"""Steepest descent with the exact step length."""

from typing import NamedTuple

from torch import Tensor

from innerloop.problems import Problem
from innerloop.solvers.base import Solver, StepStats, safe_quotient


class _State(NamedTuple):
    prediction: Tensor


class SteepestDescent(Solver):
    """Gradient descent whose step length minimises the quadratic objective along the gradient.

    A step costs two convolutions: the gradient g, and its response x * g, from which both the step
    length α = |g|² / |J g|² and the next prediction x * (τ − α g) follow.

    Args:
        floor: lower bound of |J g|² in the step length. Default 0: the step length is exact at any
            scale, and zero where the gradient is. The released LWL system has 1e-8, which stalls
            once |J g| falls below 1e-4.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, eq. 4.
    """

    def __init__(self, floor: float = 0.0) -> None:
        if not floor >= 0:
            raise ValueError(f"floor: {floor}, should not be negative")
        self.floor = floor

    def init(self, problem: Problem, params: Tensor) -> _State:
        return _State(problem.predict(params))

    def step(
        self, problem: Problem, params: Tensor, state: _State
    ) -> tuple[Tensor, _State, StepStats]:
        gradient = problem.gradient(params, state.prediction)
        response = problem.predict(gradient)
        square = problem.dot(gradient, gradient)
        curvature = problem.curvature(gradient, response).clamp(min=self.floor)
        step_size = safe_quotient(square, curvature)
        stats = StepStats(
            problem.loss(params, state.prediction).detach(),
            square.detach().sqrt(),
            step_size.detach(),
        )
        params = params - problem.per_problem(step_size, params) * gradient
        prediction = state.prediction - problem.per_problem(step_size, response) * response
        return params, _State(prediction), stats
