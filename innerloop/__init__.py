"""Differentiable inner solvers: problem, solver and adjoint are independent choices."""

from innerloop.adjoints import Adjoint, Detach, Unroll
from innerloop.problems import ConvLeastSquares, Problem
from innerloop.solve import Solution, SolveError, Stats, Status, solve
from innerloop.solvers import ConjugateGradient, Ridge, Solver, SteepestDescent

__version__ = "0.1.0"

__all__ = [
    "Adjoint",
    "ConjugateGradient",
    "ConvLeastSquares",
    "Detach",
    "Problem",
    "Ridge",
    "Solution",
    "SolveError",
    "Solver",
    "Stats",
    "Status",
    "SteepestDescent",
    "Unroll",
    "solve",
]
