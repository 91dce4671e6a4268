"""A quadratic whose meta-gradient is known in closed form."""

import torch

from innerloop.compare.bilevel import Bilevel, bilevel_suite
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal
from innerloop.problems import Quadratic
from innerloop.solvers import (
    GMRES,
    MINRES,
    ConjugateGradient,
    Exact,
    GradientDescent,
    Neumann,
    Nystrom,
    SteepestDescent,
)

SIZE = 50
CONDITION = 30.0


def suite(quick: bool) -> Suite:
    """½ p'Hp − b'p, with b the meta-parameter and the outer loss ½ |p − c|²."""
    steps = 10 if quick else 30
    # The max eigenvalue of H is 1.
    momentum = ((CONDITION**0.5 - 1) / (CONDITION**0.5 + 1)) ** 2
    return bilevel_suite(
        f"quadratic of {SIZE} parameters, condition {CONDITION:.0f}",
        make,
        steps=steps,
        solvers={
            "gradient descent": GradientDescent(1.0),
            "momentum": GradientDescent(1.0, momentum=momentum),
            "steepest descent": SteepestDescent(),
            "conjugate gradient": ConjugateGradient(),
            "MINRES": MINRES(),
            "GMRES": GMRES(),
            "Neumann": Neumann(1.0),
            "Nystrom": Nystrom(SIZE // 2, 0.3),
            "exact": Exact(),
        },
    )


def make(dtype: torch.dtype) -> Bilevel:
    """The problem in a dtype, with its solution."""
    basis = torch.linalg.qr(normal(SIZE, SIZE, seed=0)).Q
    eigenvalues = torch.logspace(0, 1, SIZE, CONDITION, dtype=torch.float64) / CONDITION
    hessian = (basis * eigenvalues) @ basis.T
    inverse = (basis / eigenvalues) @ basis.T
    center = normal(SIZE, seed=1).to(dtype)
    matrix = hessian.to(dtype)

    return Bilevel(
        hyper=normal(SIZE, seed=2).to(dtype),
        problem=lambda right: Quadratic(lambda direction: matrix @ direction, right),
        init=torch.zeros(SIZE, dtype=dtype),
        outer=lambda value, right: 0.5 * (value - center).square().sum(),
        solution=lambda right: inverse @ right,
    )
