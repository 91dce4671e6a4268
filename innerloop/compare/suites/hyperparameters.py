"""Hyperparameter learning: a weight for every sample, and the regularization."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.adjoints import Implicit
from innerloop.compare.bilevel import Bilevel, bilevel_suite, default_adjoints
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal
from innerloop.problems import LogisticRegression
from innerloop.solvers import (
    BFGS,
    IRLS,
    LBFGS,
    MINRES,
    Adam,
    Armijo,
    ConjugateGradient,
    Dogleg,
    GradientDescent,
    Jacobi,
    Neumann,
    Newton,
    NonlinearConjugateGradient,
    Nystrom,
    RMSprop,
    Solver,
    TrustRegion,
)

FEATURES, CLASSES = 20, 3


def _linear_solvers(samples: int) -> dict[str, Solver]:
    """Of the implicit gradients; the Hessian grows with the samples."""
    return {
        "MINRES()": MINRES(),
        "CG(Jacobi())": ConjugateGradient(Jacobi()),
        "Nystrom(10)": Nystrom(10, samples / 8),
        "Neumann()": Neumann(4.0 / samples),
    }


def suite(quick: bool) -> Suite:
    """Weighted logistic regression on noisy labels; the outer loss is that of clean ones."""
    samples, steps = (60, 6) if quick else (300, 30)
    return bilevel_suite(
        f"logistic regression, {samples} weighted samples of {FEATURES} features",
        partial(make, samples),
        steps=steps,
        solvers={
            "gradient descent": GradientDescent(4.0 / samples),
            "gradient descent (Armijo)": GradientDescent(Armijo(initial=16.0 / samples)),
            "Adam": Adam(0.1),
            "RMSprop": RMSprop(0.03),
            "nonlinear conjugate gradient": NonlinearConjugateGradient(),
            "BFGS": BFGS(),
            "L-BFGS": LBFGS(),
            "Newton (Armijo)": Newton(Armijo()),
            "trust region (Steihaug)": TrustRegion(),
            "trust region (dogleg)": TrustRegion(Dogleg()),
            "IRLS": IRLS(),
        },
        adjoints={
            **default_adjoints(steps),
            **{
                f"Implicit({name}, steps=5)": Implicit(solver, steps=5, accept=math.inf)
                for name, solver in _linear_solvers(samples).items()
            },
        },
    )


def make(samples: int, dtype: torch.dtype) -> Bilevel:
    """The problem with a number of samples, in a dtype."""
    truth = normal(CLASSES, FEATURES, seed=0)
    features = normal(2, samples, FEATURES, seed=1)
    labels = (features @ truth.T > 0).to(dtype)
    flipped = normal(samples, 1, seed=2) > 0.7
    noisy = torch.where(flipped, 1 - labels[0], labels[0])
    train, validation = features.to(dtype)

    def problem(hyper: dict[str, Tensor]) -> LogisticRegression:
        weights, decay = hyper["weight_logits"].sigmoid(), hyper["log_regularization"].exp()
        return LogisticRegression(train, noisy, weights, decay)

    def outer(weight: Tensor, hyper: dict[str, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(validation @ weight.T, labels[1])

    hyper = {
        "weight_logits": torch.zeros(samples, dtype=dtype),
        "log_regularization": torch.zeros((), dtype=dtype),
    }
    return Bilevel(hyper, problem, torch.zeros(CLASSES, FEATURES, dtype=dtype), outer)
