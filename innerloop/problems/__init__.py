"""Problems: what an inner solver minimises, one kind per file."""

from innerloop.problems.base import (
    ClosedFormProblem,
    CurvedProblem,
    LinearProblem,
    Problem,
    Quadratic,
    QuadraticProblem,
    Solvable,
)
from innerloop.problems.composite import Composite
from innerloop.problems.conv import ConvLeastSquares
from innerloop.problems.gaussian_mixture import GaussianMixture
from innerloop.problems.least_squares import LeastSquares
from innerloop.problems.linear import LinearLeastSquares, RidgeProblem
from innerloop.problems.logistic import LogisticRegression
from innerloop.problems.mini_batches import MiniBatches
from innerloop.problems.moments import Moments
from innerloop.problems.nonsmooth import (
    L1,
    Box,
    ConvexSet,
    GroupLasso,
    L2Ball,
    NonNegative,
    Nonsmooth,
    Simplex,
)
from innerloop.problems.normal_equations import NormalEquations
from innerloop.problems.objective import Objective, as_problem
from innerloop.problems.root import FixedPoint, LinearSystem, Root
from innerloop.problems.statistics import Statistics

__all__ = [
    "L1",
    "Box",
    "ClosedFormProblem",
    "Composite",
    "ConvLeastSquares",
    "ConvexSet",
    "CurvedProblem",
    "FixedPoint",
    "GaussianMixture",
    "GroupLasso",
    "L2Ball",
    "LeastSquares",
    "LinearLeastSquares",
    "LinearProblem",
    "LinearSystem",
    "LogisticRegression",
    "MiniBatches",
    "Moments",
    "NonNegative",
    "Nonsmooth",
    "NormalEquations",
    "Objective",
    "Problem",
    "Quadratic",
    "QuadraticProblem",
    "RidgeProblem",
    "Root",
    "Simplex",
    "Solvable",
    "Statistics",
    "as_problem",
]
