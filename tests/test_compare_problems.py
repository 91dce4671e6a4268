"""Exact solutions and meta-gradients of the suites that have their own, against scipy."""

from functools import partial

import numpy as np
import pytest
import torch

from innerloop import trees
from innerloop.compare import Clock, registry
from innerloop.compare.bilevel import exact_outcome
from innerloop.compare.measure import relative_error
from innerloop.compare.suites import composite, curve, fixed_point

optimize = pytest.importorskip("scipy.optimize")


def value_and_slope(loss):
    @torch.enable_grad()
    def found(x):
        at = torch.tensor(x, requires_grad=True)
        value = loss(at)
        return value.item(), torch.autograd.grad(value, at)[0].numpy()

    return found


def by_bounds(problem, init):
    """The lasso as a smooth problem in the positive and negative parts, which are not negative."""
    weight = problem.term.weight
    count = len(init)

    def loss(parts):
        return problem.problem.loss(parts[:count] - parts[count:]) + weight * parts.sum()

    options = {"ftol": 1e-16, "gtol": 1e-12, "maxiter": 10000, "maxfun": 100000}
    found = optimize.minimize(
        value_and_slope(loss),
        np.zeros(2 * count),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * count),
        options=options,
    )
    return found.x[:count] - found.x[count:]


def on_simplex(problem, init):
    return optimize.minimize(
        value_and_slope(problem.problem.loss),
        init.numpy(),
        jac=True,
        method="SLSQP",
        bounds=[(0, None)] * len(init),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 1000},
    ).x


def by_root(problem, init):
    return optimize.root(lambda x: problem.residual(torch.tensor(x)).numpy(), init, tol=1e-14).x


def by_least_squares(problem, init):
    def residual(x):
        return problem.residual(torch.tensor(x)).numpy()

    tolerances = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
    return optimize.least_squares(residual, init.numpy(), jac="3-point", **tolerances).x


CASES = {
    "lasso": (partial(composite.make_lasso, 30, 12), by_bounds),
    "simplex": (partial(composite.make_simplex, 30, 8), on_simplex),
    "fixed point": (partial(fixed_point.make, 6), by_root),
    "curve": (partial(curve.make, 20), by_least_squares),
}


@pytest.mark.parametrize("case", CASES)
def test_the_exact_outcome_is_that_of_scipy(case):
    make, solve = CASES[case]
    bilevel = make(torch.float64)
    found = exact_outcome(make)

    def solution(hyper):
        with torch.no_grad():
            return torch.tensor(solve(bilevel.problem(hyper), bilevel.init))

    torch.testing.assert_close(found.solution[0], solution(bilevel.hyper), rtol=1e-5, atol=1e-6)
    if case in ("lasso", "simplex"):  # there is something to choose
        assert 0 < (found.solution[0] == 0).sum() < len(found.solution[0]) - 1

    leaves, spec = trees.flatten(bilevel.hyper)
    generator = torch.Generator().manual_seed(0)
    ways = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves]
    step = 1e-4  # little, as more meets kinks

    def outer(sign):
        pairs = zip(leaves, ways, strict=True)
        hyper = trees.unflatten([leaf + sign * step * way for leaf, way in pairs], spec)
        return bilevel.outer(solution(hyper), hyper)

    slope = (outer(1) - outer(-1)) / (2 * step)
    pairs = zip(found.gradient, ways, strict=True)
    expected = torch.stack([(gradient * way).sum() for gradient, way in pairs]).sum()
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-8)


LIMITS = {
    "quadratic": {"MINRES": 0.1, "GMRES": 0.1, "Nystrom": 0.6, "exact": 1e-12},
    "hyperparameters": {
        "BFGS": 0.2,
        "L-BFGS": 0.2,
        "nonlinear conjugate gradient": 0.5,
        "trust region (Steihaug)": 1e-4,
        "trust region (dogleg)": 1e-9,
        "gradient descent + Implicit(Nystrom(10), steps=5)": 0.8,
        "gradient descent + Implicit(Neumann(), steps=5)": 0.9,
    },
    "curve": {"BFGS": 0.5, "Gauss-Newton": 1e-6, "Levenberg-Marquardt": 1e-6},
    "lasso": {"FISTA": 0.05, "FISTA + Implicit(steps=50)": 0.05},
    "simplex": {"FISTA": 0.01, "mirror descent": 0.3, "FISTA + Implicit(steps=50)": 0.01},
    "fixed-point": {"Anderson": 1e-3, "Broyden": 1e-3, "Newton-Raphson": 1e-12},
}
"""Errors of the meta-gradient that these rows of quick suites stay below."""


@pytest.mark.parametrize("name", LIMITS)
def test_good_solvers_come_close_to_the_exact_meta_gradient(name):
    suite = registry.SUITES[name](True)
    exact = suite.reference()
    rows = {row.name: row for row in suite.rows}
    for row, limit in LIMITS[name].items():
        found = rows[row].prepare(torch.float64)(Clock())
        assert relative_error(found.gradient, exact.gradient) < limit, row
