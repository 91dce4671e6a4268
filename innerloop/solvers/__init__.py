"""Solvers: how a problem is minimised, one method or family a file."""

from innerloop.solvers.adaptive import Adagrad, Adam, AdamW, RMSprop
from innerloop.solvers.base import Solver, StepStats
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.direction import DirectionSolver, GradientMethod
from innerloop.solvers.gradient import GradientDescent, LearnedUpdate
from innerloop.solvers.irls import IRLS
from innerloop.solvers.linear import Exact, Neumann
from innerloop.solvers.newton import GaussNewton, LevenbergMarquardt, Newton
from innerloop.solvers.ridge import Ridge
from innerloop.solvers.steepest import SteepestDescent
from innerloop.solvers.step_sizes import Armijo, ExactLineSearch, StepSize

__all__ = [
    "IRLS",
    "Adagrad",
    "Adam",
    "AdamW",
    "Armijo",
    "ConjugateGradient",
    "DirectionSolver",
    "Exact",
    "ExactLineSearch",
    "GaussNewton",
    "GradientDescent",
    "GradientMethod",
    "LearnedUpdate",
    "LevenbergMarquardt",
    "Neumann",
    "Newton",
    "RMSprop",
    "Ridge",
    "Solver",
    "SteepestDescent",
    "StepSize",
    "StepStats",
]
