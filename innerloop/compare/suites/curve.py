"""Nonlinear least squares: a curve fitted to weighted samples."""

from functools import partial

import torch
from torch import Tensor

from innerloop.compare.bilevel import Bilevel, bilevel_suite
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal
from innerloop.problems import LeastSquares
from innerloop.solvers import (
    BFGS,
    Exact,
    GaussNewton,
    GaussNewtonTrustRegion,
    LevenbergMarquardt,
    SteepestDescent,
)

Hyper = dict[str, Tensor]


def suite(quick: bool) -> Suite:
    """An exponential decay towards a level; samples and their weights are meta-parameters."""
    samples, steps = (30, 8) if quick else (300, 15)
    return bilevel_suite(
        f"exponential decay, {samples} weighted samples, 3 parameters",
        partial(make, samples),
        steps=steps,
        solvers={
            "steepest descent": SteepestDescent(),
            "BFGS": BFGS(),
            "Gauss-Newton": GaussNewton(linear_solver=Exact()),
            "Gauss-Newton (trust region)": GaussNewtonTrustRegion(),
            "Levenberg-Marquardt": LevenbergMarquardt(),
        },
        adjoint_solver="Levenberg-Marquardt",
    )


def make(samples: int, dtype: torch.dtype) -> Bilevel:
    """The problem with a number of samples, in a dtype."""
    times = torch.linspace(0, 4, samples, dtype=torch.float64)
    truth = torch.tensor([2.0, 1.3, 0.5], dtype=torch.float64)

    def curve(params: Tensor, times: Tensor) -> Tensor:
        height, rate, level = params.unbind()
        return height * torch.exp(-rate * times) + level

    clean = curve(truth, times)
    targets, times, clean = (
        x.to(dtype) for x in (clean + 0.1 * normal(samples, seed=0), times, clean)
    )

    def problem(hyper: Hyper) -> LeastSquares:
        scale = (0.5 * hyper["log_weights"]).exp()
        return LeastSquares(lambda params: scale * (curve(params, times) - hyper["targets"]))

    return Bilevel(
        hyper={"targets": targets, "log_weights": torch.zeros_like(targets)},
        problem=problem,
        init=torch.tensor([1.0, 1.0, 0.0], dtype=dtype),
        outer=lambda params, hyper: (curve(params, times) - clean).square().mean(),
    )
