"""Differentiable inner solvers: problem, solver and adjoint are independent choices.

What this module exports is public, and so are `innerloop.trees`, `innerloop.compat` and
`innerloop.compare`. All else may change.
"""

from innerloop.adjoints import (
    Adjoint,
    Detach,
    FirstOrder,
    Implicit,
    LinearSolveError,
    OneStep,
    Reptile,
    Truncate,
    Unroll,
)
from innerloop.modules.adapted import Adapted, adapt
from innerloop.problems import (
    ConvLeastSquares,
    CurvedProblem,
    LeastSquares,
    LinearLeastSquares,
    LogisticRegression,
    NormalEquations,
    Objective,
    Problem,
    Quadratic,
    QuadraticProblem,
    Statistics,
)
from innerloop.rates import LearningRates, RateReport
from innerloop.solvers import (
    IRLS,
    Adagrad,
    Adam,
    AdamW,
    Armijo,
    ConjugateGradient,
    Exact,
    ExactLineSearch,
    GaussNewton,
    GradientDescent,
    GradientMethod,
    LearnedUpdate,
    LevenbergMarquardt,
    Neumann,
    Newton,
    Ridge,
    RMSprop,
    Solver,
    SteepestDescent,
    StepSize,
    StepStats,
)
from innerloop.solvers.state import SolverState
from innerloop.solving import Solution, SolveError, Stats, Status, solve
from innerloop.tasks import TaskGradients, meta_train, task_gradients
from innerloop.trees import Tree

__version__ = "0.1.0"

__all__ = [
    "IRLS",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adapted",
    "Adjoint",
    "Armijo",
    "ConjugateGradient",
    "ConvLeastSquares",
    "CurvedProblem",
    "Detach",
    "Exact",
    "ExactLineSearch",
    "FirstOrder",
    "GaussNewton",
    "GradientDescent",
    "GradientMethod",
    "Implicit",
    "LearnedUpdate",
    "LearningRates",
    "LeastSquares",
    "LevenbergMarquardt",
    "LinearLeastSquares",
    "LinearSolveError",
    "LogisticRegression",
    "Neumann",
    "Newton",
    "NormalEquations",
    "Objective",
    "OneStep",
    "Problem",
    "Quadratic",
    "QuadraticProblem",
    "RMSprop",
    "RateReport",
    "Reptile",
    "Ridge",
    "Solution",
    "SolveError",
    "Solver",
    "SolverState",
    "Statistics",
    "Stats",
    "Status",
    "SteepestDescent",
    "StepSize",
    "StepStats",
    "TaskGradients",
    "Tree",
    "Truncate",
    "Unroll",
    "adapt",
    "meta_train",
    "solve",
    "task_gradients",
]
