"""Hyperparameter problems: a weight for every sample and one decay; their exact gradients."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il

SAMPLES, FEATURES = 400, 60
SPREAD = 10.0
"""Ratio of the scales of the features; the condition of the Hessian is about its square."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of parameters, logarithms of the weights of the samples, and the logarithm of the decay."""


class Task(NamedTuple):
    """An inner problem, as a loss and with its structure, and the outer loss of its minimum."""

    loss: Loss
    outer: Callable[[Tensor], Tensor]
    problem: Callable[[Tensor, Tensor], il.Problem]
    solvers: Mapping[str, tuple[il.Solver, il.Adjoint | None]]
    """Those that the structure allows, and how they are differentiated; None: `Implicit`."""
    init: Tensor
    hyper: tuple[Tensor, Tensor]


def _data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features and noisy targets to fit, and held out."""
    make = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=make, dtype=torch.float64)
    scales = torch.logspace(0, -math.log10(SPREAD), FEATURES, dtype=torch.float64)
    features = normal(2, SAMPLES, FEATURES) * scales
    targets = features @ (2 * normal(FEATURES)) + 0.5 * normal(2, SAMPLES)
    return features[0], targets[0], features[1], targets[1]


def _task(
    residual: Callable[[Tensor, Tensor, Tensor], Tensor],
    targets: tuple[Tensor, Tensor],
    problem: Callable[[Tensor, Tensor, Tensor, Tensor], il.Problem],
    solvers: Mapping[str, tuple[il.Solver, il.Adjoint | None]],
) -> Task:
    """A task whose loss is the weighted sum of a residual of every sample, plus the decay."""
    x, _, held_x, _ = _data()
    y, held_y = targets

    def loss(w: Tensor, log_weights: Tensor, log_decay: Tensor) -> Tensor:
        fit = (log_weights.exp() * residual(w, x, y)).sum()
        return fit + 0.5 * log_decay.exp() * w.square().sum()

    return Task(
        loss,
        lambda w: residual(w, held_x, held_y).mean(),
        lambda log_weights, log_decay: problem(x, y, log_weights.exp(), log_decay.exp()),
        solvers,
        torch.zeros(1, FEATURES, dtype=torch.float64),
        (torch.zeros(SAMPLES, dtype=torch.float64), torch.zeros((), dtype=torch.float64)),
    )


def ridge() -> Task:
    """Linear least squares."""
    _, y, _, held_y = _data()
    return _task(
        lambda w, x, y: 0.5 * (x @ w[0] - y).square(),
        (y, held_y),
        lambda x, y, weights, decay: il.LinearLeastSquares(
            x, y[:, None], weights.sqrt(), regularization=decay
        ),
        {
            "Ridge()": (il.Ridge(), il.Unroll()),
            "ConjugateGradient()": (il.ConjugateGradient(), None),
        },
    )


def logistic() -> Task:
    """Logistic regression of the targets' signs."""
    _, y, _, held_y = _data()
    labels, held_labels = ((part > 0).double() for part in (y, held_y))
    return _task(
        lambda w, x, y: F.binary_cross_entropy_with_logits(x @ w[0], y, reduction="none"),
        (labels, held_labels),
        lambda x, y, weights, decay: il.LogisticRegression(x, y[:, None], weights, decay),
        {
            "IRLS(), OneStep()": (il.IRLS(), il.OneStep()),
            "IRLS()": (il.IRLS(), None),
        },
    )


def nonlinear() -> Task:
    """Least squares of a saturating response."""
    _, y, _, held_y = _data()

    def problem(x: Tensor, y: Tensor, weights: Tensor, decay: Tensor) -> il.Problem:
        scale = weights.sqrt()
        return il.LeastSquares(lambda w: scale * (torch.tanh(x @ w[0]) - y), decay)

    return _task(
        lambda w, x, y: 0.5 * (torch.tanh(x @ w[0]) - y).square(),
        (0.8 * torch.tanh(y), 0.8 * torch.tanh(held_y)),
        problem,
        {
            "LevenbergMarquardt()": (il.LevenbergMarquardt(), None),
            "Newton(Exact()), OneStep()": (il.Newton(linear_solver=il.Exact()), il.OneStep()),
            "GaussNewton(Exact()), Implicit(Exact())": (
                il.GaussNewton(linear_solver=il.Exact()),
                il.Implicit(il.Exact(), accept=math.inf),
            ),
        },
    )


TASKS = {"ridge": ridge, "logistic": logistic, "nonlinear": nonlinear}


class Tuned(NamedTuple):
    """What the spectrum of the Hessian at the minimum gives every library."""

    rate: float
    momentum: float
    neumann: float


def minimum(task: Task) -> tuple[Tensor, Tensor]:
    """The minimum, and the Hessian there, by damped Newton steps."""
    w = task.init
    slope, curvature = torch.func.grad(task.loss), torch.func.hessian(task.loss)
    for _ in range(100):
        gradient = slope(w, *task.hyper).flatten()
        hessian = curvature(w, *task.hyper).reshape(FEATURES, FEATURES)
        if float(gradient.norm()) < 1e-11:
            return w, hessian
        # Far from the minimum the loss of `nonlinear` is not convex.
        least = float(torch.linalg.eigvalsh(hessian)[0])
        shifted = hessian + max(0.0, 1e-3 - 2 * least) * torch.eye(FEATURES).to(hessian)
        change, size, now = torch.linalg.solve(shifted, gradient), 1.0, task.loss(w, *task.hyper)
        while size > 1e-6 and task.loss(w - size * change, *task.hyper) > now:
            size /= 2
        w = w - size * change
    raise RuntimeError("Newton steps found no minimum")


def tuned(hessian: Tensor) -> Tuned:
    """The best rates for a quadratic of that Hessian (Polyak's momentum)."""
    low, high = (float(v) for v in torch.linalg.eigvalsh(hessian)[[0, -1]])
    roots = high**0.5 + low**0.5
    # Away from the minimum the curvature may be larger.
    return Tuned(2 / roots**2, ((high**0.5 - low**0.5) / roots) ** 2, 2 / (high + low))


def exact(task: Task) -> Tensor:
    """The hypergradient at the minimum, weights and decay side by side."""
    w, hessian = minimum(task)
    right = torch.func.grad(task.outer)(w).flatten()
    return mixed(task, w, torch.linalg.solve(hessian, right).reshape(w.shape))


def mixed(task: Task, w: Tensor, direction: Tensor) -> Tensor:
    """-(d²loss / dw dhyper) times a direction of w."""
    hyper = [h.clone().requires_grad_() for h in task.hyper]
    w = w.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(w, *hyper), w, create_graph=True)
    return -flat(torch.autograd.grad(gradient, hyper, direction))


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts]).detach()
