"""Steepest descent with the step length that is exact for the Gauss-Newton curvature."""

from typing import Any

from torch import Tensor

from innerloop import trees
from innerloop.problems.base import CurvedProblem
from innerloop.problems.linear import RidgeProblem
from innerloop.solvers.base import Solver, StepStats, check_not_negative, safe_quotient
from innerloop.solvers.coordinates import Coordinates, cheapest
from innerloop.trees import Tree


class SteepestDescent(Solver):
    """Gradient descent whose step length minimises the quadratic model along the gradient.

    The step length is α = |g|² / |J g|²: exact for linear least squares, the Gauss-Newton step for
    nonlinear ones. On linear problems a step costs two applications of the linear map: the gradient
    g, and its response J g, from which both the step length and the next prediction follow. This
    prediction is the state that it hands on, so that the next solve of the same problem need not
    compute it.

    Args:
        floor: lower bound of |J g|² in the step length. Default 0: the step length is exact at any
            scale, and zero where the gradient is. The released LWL system has 1e-8, which stalls
            once |J g| falls below 1e-4.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, eq. 4.
    """

    solves = CurvedProblem
    state_follows_params = True

    def __init__(self, floor: float | Tensor = 0.0) -> None:
        check_not_negative(floor=floor)
        self.floor = floor

    def coordinates(
        self, problem: CurvedProblem, init: Tree, steps: int, carried: Any
    ) -> Coordinates | None:
        # A step consists of sums and inner products only.
        if not isinstance(problem, RidgeProblem):
            return None
        return cheapest(problem, init, steps, carried)

    def init(self, problem: CurvedProblem, params: Tree) -> Any:
        return problem.predict(params)

    def step(self, problem: CurvedProblem, params: Tree, state: Any) -> tuple[Tree, Any, StepStats]:
        loss, gradient = problem.evaluate(params, state)
        response = problem.respond(params, gradient)
        square = problem.dot(gradient, gradient)
        curvature = problem.curvature(gradient, response, square).clamp(min=self.floor)
        step_size = -safe_quotient(square, curvature)
        moved = trees.add_scaled(params, step_size, gradient)
        prediction = problem.move(state, step_size, response)
        norm = square.detach().sqrt()
        return moved, prediction, StepStats(loss.detach(), norm, -step_size.detach())

    def carried(self, state: Any) -> Any:
        return state

    def check_carried(self, problem: CurvedProblem, params: Tree, carried: Any) -> None:
        super().check_carried(problem, params, carried)
        if isinstance(problem, RidgeProblem):
            problem.check_prediction(carried, params)
