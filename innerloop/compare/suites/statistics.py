"""A filter of few channels fitted to many frames: from the frames, or from their statistics."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.compare.bilevel import Bilevel, bilevel_suite, solver_rows
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal
from innerloop.problems import ConvLeastSquares, NormalEquations, Problem, Statistics
from innerloop.solvers import ConjugateGradient, Ridge, SteepestDescent

KERNEL = 3


def suite(quick: bool) -> Suite:
    """The outer loss is the squared error on another frame; all solve the same problem."""
    frames, channels, height, width = (2, 4, 15, 20) if quick else (8, 32, 30, 52)
    steps = 5 if quick else 20
    sizes = frames + 1, channels, height, width
    frames_kept = bilevel_suite(
        f"3x3 filter, {channels} random channels at {height}x{width}, {frames} frames",
        partial(_make, sizes, ConvLeastSquares),
        steps=steps,
        solvers={
            "steepest descent": SteepestDescent(),
            "conjugate gradient": ConjugateGradient(),
            "ridge (closed form)": Ridge(),
        },
        adjoint_solver="conjugate gradient",
    )
    summed = solver_rows(
        partial(_make, sizes, _from_statistics),
        {
            "conjugate gradient, statistics": ConjugateGradient(),
            "ridge (closed form), statistics": Ridge(),
        },
        steps,
    )
    return replace(frames_kept, rows=[*frames_kept.rows, *summed])


def _from_statistics(
    features: Tensor, targets: Tensor, weights: Tensor, regularization: Tensor
) -> NormalEquations:
    statistics = Statistics.conv(features, targets, weights, kernel=KERNEL)
    return NormalEquations(statistics, regularization)


def _make(
    sizes: tuple[int, int, int, int],
    problem: Callable[[Tensor, Tensor, Tensor, Tensor], Problem],
    dtype: torch.dtype,
) -> Bilevel:
    count, channels, height, width = sizes
    features = normal(*sizes, seed=0).to(dtype)
    # A filter that is to be found, and noise.
    truth = normal(1, channels, KERNEL, KERNEL, seed=1).to(dtype)
    targets = F.conv2d(features, truth, padding=KERNEL // 2)
    targets = targets + normal(count, 1, height, width, seed=2).to(dtype)
    regularization = 0.1 * height * width * (count - 1)
    hyper = {
        "features": features[:-1],
        "targets": targets[:-1],
        "weights": torch.ones_like(targets[:-1]),
        "log_regularization": torch.tensor(regularization, dtype=dtype).log(),
    }

    def inner(hyper: dict[str, Tensor]) -> Problem:
        decay = hyper["log_regularization"].exp()
        return problem(hyper["features"], hyper["targets"], hyper["weights"], decay)

    def outer(weight: Tensor, hyper: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(F.conv2d(features[-1:], weight, padding=KERNEL // 2), targets[-1:])

    return Bilevel(hyper, inner, torch.zeros_like(truth), outer)
