"""Ridge regression on few samples of many features, as the last layer of a few-shot learner."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.compare.bilevel import Bilevel, bilevel_suite
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal
from innerloop.problems import LinearLeastSquares
from innerloop.solvers import (
    Armijo,
    ConjugateGradient,
    GradientDescent,
    Ridge,
    SteepestDescent,
)

WAYS, SHOTS = 5, 5


def suite(quick: bool) -> Suite:
    """A linear layer on support samples; features and regularization are meta-parameters."""
    channels, steps = (128, 5) if quick else (1600, 10)
    return bilevel_suite(
        f"ridge regression, {WAYS}-way {SHOTS}-shot, {channels} features",
        partial(_make, channels),
        steps=steps,
        solvers={
            "steepest descent": SteepestDescent(),
            "gradient descent (Armijo)": GradientDescent(Armijo()),
            "conjugate gradient": ConjugateGradient(),
            "ridge (primal)": Ridge("primal"),
            "ridge (dual)": Ridge("dual"),
        },
    )


def _make(channels: int, dtype: torch.dtype) -> Bilevel:
    labels = torch.eye(WAYS, dtype=dtype).repeat(SHOTS, 1)
    means = normal(WAYS, channels, seed=0).repeat(SHOTS, 1)
    scale = channels**-0.5
    support = scale * (means + normal(WAYS * SHOTS, channels, seed=1))
    query = (scale * (means + normal(WAYS * SHOTS, channels, seed=2))).to(dtype)
    hyper = {"features": support.to(dtype), "log_regularization": torch.zeros((), dtype=dtype)}

    def outer(weight: Tensor, hyper: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(query @ weight.T, labels)

    return Bilevel(
        hyper=hyper,
        problem=lambda h: LinearLeastSquares(
            h["features"], labels, regularization=h["log_regularization"].exp()
        ),
        init=torch.zeros(WAYS, channels, dtype=dtype),
        outer=outer,
    )
