"""The inner solvers by the names that the command line has for them."""

from collections.abc import Callable

import innerloop as il
from innerloop.errors import InputError

SOLVERS: dict[str, Callable[[], il.Solver]] = {
    "conjugate-gradient": il.ConjugateGradient,
    "steepest-descent": il.SteepestDescent,
    "exact": il.Ridge,
}


def solver(name: str) -> il.Solver:
    """Return the solver of a name.

    Raises:
        InputError: it is unknown.
    """
    if name not in SOLVERS:
        raise InputError(f"solver: {name!r} is unknown; there are {', '.join(SOLVERS)}")
    return SOLVERS[name]()
