"""Solvers: how a problem is minimised, one method a file."""

from innerloop.solvers.base import Solver, StepStats
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.ridge import Ridge
from innerloop.solvers.steepest import SteepestDescent

__all__ = ["ConjugateGradient", "Ridge", "Solver", "SteepestDescent", "StepStats"]
