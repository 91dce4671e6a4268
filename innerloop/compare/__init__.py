"""Comparing inner solvers, adjoints and other libraries: `innerloop compare`.

A file given to `--module`, or a module named by an entry point of the group `innerloop.compare`,
can add rows and suites:

    from innerloop import compare

    compare.add_solver("my solver", MySolver())
    compare.add_problem("my problem", make)  # make(dtype) returns a compare.Bilevel
"""

from innerloop.compare.bilevel import Bilevel, add_problem
from innerloop.compare.registry import add_adjoint, add_solver, add_suite
from innerloop.compare.suite import Clock, Outcome, Row, Suite

__all__ = [
    "Bilevel",
    "Clock",
    "Outcome",
    "Row",
    "Suite",
    "add_adjoint",
    "add_problem",
    "add_solver",
    "add_suite",
]
