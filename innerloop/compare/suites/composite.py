"""Problems with a nonsmooth term or constraints: a lasso, and weights on the simplex."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.compare.bilevel import Bilevel, bilevel_suite
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal
from innerloop.problems import L1, Composite, Simplex
from innerloop.solvers import FISTA, Backtracking, MirrorDescent, ProximalGradient, Solver
from innerloop.solving import solve

Hyper = dict[str, Tensor]


class _Fit(NamedTuple):
    """Rows of features to fit to, and to judge by."""

    features: Tensor
    held_out: Tensor
    targets: Tensor
    answers: Tensor

    def gram(self) -> Tensor:
        return self.features.mT @ self.features / len(self.features)

    def rate(self) -> float:
        """One over the max eigenvalue of the Hessian."""
        return 1 / float(torch.linalg.matrix_norm(self.gram(), 2))

    def loss(self, params: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (self.features @ params - targets).square().mean()


def _fit(samples: int, truth: Tensor) -> _Fit:
    features = normal(2, samples, len(truth), seed=0)
    targets = features @ truth + 0.3 * normal(2, samples, seed=1)
    return _Fit(*features, *targets)


def lasso(quick: bool) -> Suite:
    """Least squares with an L1 term; targets and the term's weight are meta-parameters."""
    samples, features, steps = (40, 20, 20) if quick else (200, 100, 60)
    return _suite(
        f"lasso, {samples} samples of {features} features",
        partial(make_lasso, samples, features),
        _fit(samples, normal(features, seed=2)).rate(),
        steps,
        {},
    )


def simplex(quick: bool) -> Suite:
    """Least squares by a convex combination; the targets are meta-parameters."""
    samples, features, steps = (40, 10, 20) if quick else (200, 50, 60)
    rate = _fit(samples, normal(features, seed=2)).rate()
    mirror = {"mirror descent": MirrorDescent(4 * rate)}
    return _suite(
        f"convex combination, {samples} samples of {features} features",
        partial(make_simplex, samples, features),
        rate,
        steps,
        mirror,
    )


def _suite(
    description: str,
    make: Callable[[torch.dtype], Bilevel],
    rate: float,
    steps: int,
    more: Mapping[str, Solver],
) -> Suite:
    solvers: dict[str, Solver] = {
        "proximal gradient": ProximalGradient(rate),
        "proximal gradient (backtracking)": ProximalGradient(Backtracking()),
        "FISTA": FISTA(rate),
    }
    return bilevel_suite(
        description, make, steps=steps, solvers={**solvers, **more}, adjoint_solver="FISTA"
    )


def make_lasso(samples: int, features: int, dtype: torch.dtype) -> Bilevel:
    """The lasso in a dtype; every fourth feature counts."""
    fit = _Fit(
        *(x.to(dtype) for x in _fit(samples, normal(features, seed=2) * _every_fourth(features)))
    )
    init = torch.zeros(features, dtype=dtype)

    def problem(hyper: Hyper) -> Composite:
        weight = hyper["log_weight"].exp()
        return Composite(lambda p: fit.loss(p, hyper["targets"]), L1(weight), size=fit.rate())

    def solution(hyper: Hyper) -> Tensor:
        """Where the parameters vanish, and their signs, are found; the others are solved for."""
        near = _near(problem(hyper), init, fit.rate())
        active = near != 0
        right = fit.features.mT @ hyper["targets"] / samples
        right = right - hyper["log_weight"].exp() * near.sign()
        found = torch.linalg.solve(fit.gram()[active][:, active], right[active])
        return torch.zeros_like(near).masked_scatter(active, found)

    hyper = {"targets": fit.targets, "log_weight": torch.tensor(0.1, dtype=dtype).log()}
    return Bilevel(hyper, problem, init, partial(_outer, fit), solution)


def make_simplex(samples: int, features: int, dtype: torch.dtype) -> Bilevel:
    """The convex combination in a dtype; every fourth feature counts."""
    truth = _every_fourth(features)
    fit = _Fit(*(x.to(dtype) for x in _fit(samples, truth / truth.sum())))
    init = torch.full((features,), 1 / features, dtype=dtype)

    def problem(hyper: Hyper) -> Composite:
        return Composite(lambda p: fit.loss(p, hyper["targets"]), Simplex(), size=fit.rate())

    def solution(hyper: Hyper) -> Tensor:
        """Where the parameters vanish is found; the others, and a multiplier, are solved for."""
        near = _near(problem(hyper), init, fit.rate())
        active = near > 0
        right = fit.features.mT @ hyper["targets"] / samples
        ones = torch.ones_like(right[active])
        system = torch.cat([fit.gram()[active][:, active], ones[None]])
        system = torch.cat([system, torch.cat([ones, ones.new_zeros(1)])[:, None]], 1)
        found = torch.linalg.solve(system, torch.cat([right[active], ones[:1]]))[:-1]
        return torch.zeros_like(near).masked_scatter(active, found)

    return Bilevel({"targets": fit.targets}, problem, init, partial(_outer, fit), solution)


def _every_fourth(features: int) -> Tensor:
    return (torch.arange(features) % 4 == 0).double()


@torch.no_grad()
def _near(problem: Composite, init: Tensor, rate: float) -> Tensor:
    """Near enough to the solution to tell which parameters vanish."""
    found: Tensor = solve(problem, init, FISTA(rate), steps=2000, tolerance=1e-12).value
    return found


def _outer(fit: _Fit, params: Tensor, hyper: Hyper) -> Tensor:
    return 0.5 * (fit.held_out @ params - fit.answers).square().mean()
