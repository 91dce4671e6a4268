"""Problems: what an inner solver minimises, one kind per file."""

from innerloop.problems.base import (
    ClosedFormProblem,
    CurvedProblem,
    Problem,
    Quadratic,
    QuadraticProblem,
)
from innerloop.problems.conv import ConvLeastSquares
from innerloop.problems.gaussian_mixture import GaussianMixture
from innerloop.problems.least_squares import LeastSquares
from innerloop.problems.linear import LinearLeastSquares, RidgeProblem
from innerloop.problems.logistic import LogisticRegression
from innerloop.problems.mini_batches import MiniBatches
from innerloop.problems.moments import Moments
from innerloop.problems.normal_equations import NormalEquations
from innerloop.problems.objective import Objective, as_problem
from innerloop.problems.statistics import Statistics

__all__ = [
    "ClosedFormProblem",
    "ConvLeastSquares",
    "CurvedProblem",
    "GaussianMixture",
    "LeastSquares",
    "LinearLeastSquares",
    "LogisticRegression",
    "MiniBatches",
    "Moments",
    "NormalEquations",
    "Objective",
    "Problem",
    "Quadratic",
    "QuadraticProblem",
    "RidgeProblem",
    "Statistics",
    "as_problem",
]
