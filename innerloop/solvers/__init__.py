"""Solvers: how a problem is minimised, one method or family per file.

There is no solver of quadratic programs, so no SVM in dual form: of the differentiable ones, qpth
has had no release since 2024, and cvxpylayers needs cvxpy and diffcp, while this package needs
torch alone. The squared-hinge SVM needs no such solver: its primal is a smooth `Objective` that
`Newton(Armijo())` minimises and `Implicit()` differentiates.
"""

from innerloop.solvers.adaptive import (
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    RAdam,
    RMSprop,
)
from innerloop.solvers.base import Solver, StepStats
from innerloop.solvers.broyden import Broyden
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.direction import DirectionSolver, GradientMethod
from innerloop.solvers.early_stopping import EarlyStopping
from innerloop.solvers.fixed_point import Anderson, FixedPointIteration
from innerloop.solvers.gmres import GMRES
from innerloop.solvers.gradient import GradientDescent, LearnedUpdate
from innerloop.solvers.irls import IRLS
from innerloop.solvers.levenberg_marquardt import LevenbergMarquardt
from innerloop.solvers.linear import Exact, Neumann
from innerloop.solvers.maximum_likelihood import MaximumLikelihood
from innerloop.solvers.minres import MINRES
from innerloop.solvers.newton import GaussNewton, Newton
from innerloop.solvers.newton_raphson import NewtonRaphson
from innerloop.solvers.nonlinear_conjugate import NonlinearConjugateGradient
from innerloop.solvers.nystrom import Nystrom
from innerloop.solvers.preconditioners import Jacobi, Preconditioner
from innerloop.solvers.proximal import FISTA, Backtracking, MirrorDescent, ProximalGradient
from innerloop.solvers.quasi_newton import BFGS, LBFGS
from innerloop.solvers.ridge import Ridge
from innerloop.solvers.steepest import SteepestDescent
from innerloop.solvers.step_sizes import Armijo, ExactLineSearch, StepSize
from innerloop.solvers.subproblems import Dogleg, Steihaug, Subproblem
from innerloop.solvers.transforms import ClipNorm, ClipValue, GradientTransform
from innerloop.solvers.trust_region import GaussNewtonTrustRegion, TrustRegion
from innerloop.solvers.wolfe import StrongWolfe

__all__ = [
    "BFGS",
    "FISTA",
    "GMRES",
    "IRLS",
    "LBFGS",
    "MINRES",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Anderson",
    "Armijo",
    "Backtracking",
    "Broyden",
    "ClipNorm",
    "ClipValue",
    "ConjugateGradient",
    "DirectionSolver",
    "Dogleg",
    "EarlyStopping",
    "Exact",
    "ExactLineSearch",
    "FixedPointIteration",
    "GaussNewton",
    "GaussNewtonTrustRegion",
    "GradientDescent",
    "GradientMethod",
    "GradientTransform",
    "Jacobi",
    "LearnedUpdate",
    "LevenbergMarquardt",
    "Lion",
    "MaximumLikelihood",
    "MirrorDescent",
    "Neumann",
    "Newton",
    "NewtonRaphson",
    "NonlinearConjugateGradient",
    "Nystrom",
    "Preconditioner",
    "ProximalGradient",
    "RAdam",
    "RMSprop",
    "Ridge",
    "Solver",
    "SteepestDescent",
    "Steihaug",
    "StepSize",
    "StepStats",
    "StrongWolfe",
    "Subproblem",
    "TrustRegion",
]
