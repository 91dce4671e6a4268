"""Adjoints: how the outer gradient comes back through an inner solve, one idea per file."""

from innerloop.adjoints.auto import Auto
from innerloop.adjoints.base import Adjoint, Detach
from innerloop.adjoints.finite_difference import FiniteDifference
from innerloop.adjoints.first_order import FirstOrder, Reptile
from innerloop.adjoints.implicit import Implicit, LinearSolveError
from innerloop.adjoints.unrolled import OneStep, Truncate, Unroll

__all__ = [
    "Adjoint",
    "Auto",
    "Detach",
    "FiniteDifference",
    "FirstOrder",
    "Implicit",
    "LinearSolveError",
    "OneStep",
    "Reptile",
    "Truncate",
    "Unroll",
]
