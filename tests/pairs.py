"""Every solver, problem and adjoint with an example of each, and the table of which go together.

`python tests/pairs.py` writes the table to innerloop/PAIRS.md.
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import innerloop as il

TABLE = Path(__file__).parents[1] / "innerloop" / "PAIRS.md"


class Example(NamedTuple):
    """A problem with one solution and hyperparameters, and where to start."""

    make: Callable[[dict[str, Tensor]], Any]
    hyper: dict[str, Tensor]
    init: Any


def normal(*shape: int, seed: int = 0) -> Tensor:
    make = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=make, dtype=torch.float64)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _objective() -> Example:
    def make(hyper: dict[str, Tensor]) -> il.Objective:
        def loss(params: dict[str, Tensor]) -> Tensor:
            fit = F.softplus(hyper["data"] @ params["weight"] + params["bias"]).sum()
            square = params["weight"].square().sum() + params["bias"].square().sum()
            return 0.3 * fit + 0.5 * hyper["decay"] * square

        return il.Objective(loss)

    init = {"weight": normal(3, 2), "bias": normal(2)}
    return Example(make, {"data": normal(4, 3), "decay": _scalar(1.3)}, init)


def _mini_batches() -> Example:
    """Each step sees both batches, as the minimum is that of both."""

    def make(hyper: dict[str, Tensor]) -> il.MiniBatches:
        def loss(params: dict[str, Tensor], batch: Tensor) -> Tensor:
            fit = F.softplus(batch @ params["weight"]).sum()
            return 0.3 * fit + 0.5 * hyper["decay"] * params["weight"].square().sum()

        return il.MiniBatches(loss, [hyper["data"][:2], hyper["data"][2:]], accumulate=2)

    init = {"weight": normal(3, 2)}
    return Example(make, {"data": normal(5, 3), "decay": _scalar(1.3)}, init)


def _least_squares() -> Example:
    def make(hyper: dict[str, Tensor]) -> il.LeastSquares:
        def residual(params: dict[str, Tensor]) -> Tensor:
            return torch.tanh(hyper["data"] @ params["weight"] + params["bias"]) - hyper["targets"]

        return il.LeastSquares(residual, hyper["decay"])

    init = {"weight": 0.3 * normal(3, 2), "bias": 0.3 * normal(2)}
    hyper = {"data": 0.5 * normal(5, 3), "targets": 0.3 * normal(5, 2), "decay": _scalar(0.8)}
    return Example(make, hyper, init)


def _linear() -> Example:
    hyper = {
        "features": 0.5 * normal(2, 4, 3),
        "targets": normal(2, 4, 2),
        "weights": 1 + 0.1 * normal(2, 4),
        "decay": torch.tensor([0.7, 1.1], dtype=torch.float64),
    }
    return Example(
        lambda h: il.LinearLeastSquares(h["features"], h["targets"], h["weights"], h["decay"]),
        hyper,
        normal(2, 2, 3),
    )


def _conv() -> Example:
    hyper = {
        "features": 0.3 * normal(2, 2, 3, 4),
        "targets": normal(2, 2, 3, 4, seed=1),
        "weights": 1 + 0.1 * normal(2),
        "decay": _scalar(1.2),
    }
    return Example(
        lambda h: il.ConvLeastSquares(h["features"], h["targets"], h["weights"], h["decay"]),
        hyper,
        normal(2, 2, 3, 3),
    )


def _conv_of_few_pixels() -> Example:
    """One that steepest descent solves in the dual."""
    hyper = {
        "features": 0.3 * normal(1, 6, 2, 2),
        "targets": normal(1, 2, 2, 2, seed=1),
        "weights": 1 + 0.1 * normal(1, 2, 2, 2, seed=2),
        "decay": _scalar(1.2),
    }
    return _conv()._replace(hyper=hyper, init=normal(2, 6, 3, 3))


def _statistics() -> Example:
    def make(hyper: dict[str, Tensor]) -> il.NormalEquations:
        features, targets, weights = hyper["features"], hyper["targets"], hyper["weights"]
        old = il.Statistics.linear(features[:, :3], targets[:, :3], weights[:, :3])
        new = il.Statistics.linear(features[:, 2:], targets[:, 2:], weights[:, 2:])
        return il.NormalEquations(old.updated(new, hyper["rate"]), hyper["decay"])

    hyper = {
        "features": 0.5 * normal(2, 5, 4),
        "targets": normal(2, 5, 3, seed=1),
        "weights": 1 + 0.1 * normal(2, 5, seed=2),
        "decay": torch.tensor([0.7, 1.1], dtype=torch.float64),
        "rate": _scalar(0.4),
    }
    return Example(make, hyper, normal(2, 3, 4, seed=3))


def _statistics_of_frames() -> Example:
    def make(hyper: dict[str, Tensor]) -> il.NormalEquations:
        samples = hyper["features"], hyper["targets"], hyper["weights"]
        return il.NormalEquations(il.Statistics.conv(*samples, kernel=3), hyper["decay"])

    return _conv()._replace(make=make)


def _logistic() -> Example:
    labels = (normal(5, 2) > 0).double()
    return Example(
        lambda h: il.LogisticRegression(h["features"], labels, h["weights"], h["decay"]),
        {"features": normal(5, 3), "weights": 1 + 0.1 * normal(5), "decay": _scalar(1.4)},
        0.3 * normal(2, 3),
    )


def _gaussians() -> Example:
    def make(hyper: dict[str, Tensor]) -> il.GaussianMixture:
        samples, assignments = hyper["samples"], hyper["logits"].softmax(-1)
        old = il.Moments.of(samples[:, :4], assignments[:, :4])
        new = il.Moments.of(samples[:, 3:], assignments[:, 3:])
        return il.GaussianMixture(old.updated(new, hyper["rate"]), hyper["floor"])

    hyper = {
        "samples": 0.5 * normal(2, 7, 3),
        "logits": normal(2, 7, 2, seed=1),
        "floor": 0.8 + 0.1 * normal(2, 3).abs(),
        "rate": _scalar(0.4),
    }
    init = {"mean": 0.1 * normal(2, 2, 3), "log_variance": 0.1 * normal(2, 2, 3, seed=1)}
    return Example(make, hyper, init)


def _split(vector: Tensor) -> dict[str, Tensor]:
    return {"a": vector[..., :3], "b": vector[..., 3:].unflatten(-1, (1, 2))}


def _joined(params: dict[str, Tensor]) -> Tensor:
    return torch.cat([params["a"], params["b"].flatten(-2)], -1)


def _squashed(hyper: dict[str, Tensor], params: dict[str, Tensor]) -> Tensor:
    return torch.tanh(_joined(params) @ hyper["matrix"] + hyper["bias"])


def _equations(make: Callable[[dict[str, Tensor]], Any]) -> Example:
    """Two systems of equations, whose matrix is not symmetric."""
    hyper = {"matrix": 0.25 * normal(5, 5), "bias": normal(2, 5)}
    return Example(make, hyper, _split(0.5 * normal(2, 5, seed=1)))


def _fixed_point() -> Example:
    return _equations(lambda h: il.FixedPoint(lambda p: _split(_squashed(h, p)), (2,)))


def _root() -> Example:
    return _equations(
        lambda h: il.Root(lambda p: _split(_joined(p) + 0.7 * _squashed(h, p) - h["bias"]), (2,))
    )


def _linear_system() -> Example:
    def make(hyper: dict[str, Tensor]) -> il.LinearSystem:
        def operator(params: dict[str, Tensor]) -> dict[str, Tensor]:
            vector = _joined(params)
            return _split(vector + vector @ hyper["matrix"])

        return il.LinearSystem(operator, _split(hyper["bias"]), (2,))

    return _equations(make)


def _composite() -> Example:
    """The lasso in one tensor, where some parameters are zero, and bounds on another one."""

    def make(hyper: dict[str, Tensor]) -> il.Composite:
        def loss(params: dict[str, Tensor]) -> Tensor:
            fit = torch.stack([hyper["data"] @ params["a"][i] for i in range(2)])
            fit = fit + params["b"] - hyper["targets"]
            return 0.5 * fit.square().sum(-1) + 0.5 * params["b"].square().sum(-1)

        term = {"a": il.L1(hyper["weight"]), "b": il.Box(-0.1, hyper["upper"])}
        return il.Composite(il.Objective(loss, (2,)), term, size=0.3)

    hyper = {
        "data": 0.2 * normal(5, 4) + torch.eye(5, 4, dtype=torch.float64),
        "targets": normal(2, 5),
        "weight": torch.tensor([0.3, 0.5], dtype=torch.float64),
        "upper": _scalar(0.2),
    }
    return Example(make, hyper, {"a": normal(2, 4, seed=1), "b": 0.05 * normal(2, 1)})


def _on_simplex() -> Example:
    def make(hyper: dict[str, Tensor]) -> il.Composite:
        def loss(params: Tensor) -> Tensor:
            square = (params @ hyper["data"]).square().flatten(1).sum(-1)
            return 0.5 * square - (params * hyper["gain"]).flatten(1).sum(-1)

        return il.Composite(il.Objective(loss, (2,)), il.Simplex(hyper["total"]))

    hyper = {
        "data": 0.2 * normal(4, 4) + torch.eye(4, dtype=torch.float64),
        "gain": normal(2, 3, 4),
        "total": torch.tensor([1.0, 1.5], dtype=torch.float64),
    }
    return Example(make, hyper, normal(2, 3, 4, seed=1).softmax(-1))


PROBLEMS: dict[str, Callable[[], Example]] = {
    "Objective": _objective,
    "MiniBatches": _mini_batches,
    "LeastSquares": _least_squares,
    "LinearLeastSquares": _linear,
    "ConvLeastSquares": _conv,
    "ConvLeastSquares (dual)": _conv_of_few_pixels,
    "NormalEquations": _statistics,
    "NormalEquations (conv)": _statistics_of_frames,
    "LogisticRegression": _logistic,
    "GaussianMixture": _gaussians,
    "FixedPoint": _fixed_point,
    "Root": _root,
    "LinearSystem": _linear_system,
    "Composite": _composite,
    "Composite (Simplex)": _on_simplex,
}


class _Update(nn.Module):
    """A learned update: the gradient scaled and averaged by learned factors."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(-0.2, dtype=torch.float64))
        self.keep = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, gradient: Any, state: Any) -> tuple[Any, Any]:
        if state is None:
            state = il.trees.zeros_like(gradient)
        state = il.trees.tree_map(lambda s, g: self.keep * s + g, state, gradient)
        return il.trees.tree_map(lambda s: self.scale * s, state), state


SOLVERS: dict[str, Callable[[], il.Solver]] = {
    "GradientDescent": lambda: il.GradientDescent(0.2),
    "GradientDescent(momentum)": lambda: il.GradientDescent(0.1, momentum=0.5),
    "GradientDescent(nesterov)": lambda: il.GradientDescent(0.1, momentum=0.5, nesterov=True),
    "GradientDescent(Armijo())": lambda: il.GradientDescent(il.Armijo()),
    "GradientDescent(ExactLineSearch())": lambda: il.GradientDescent(il.ExactLineSearch()),
    # A large eps: finite differences must not straddle the kink that a small one makes.
    "Adam": lambda: il.Adam(0.1, eps=0.1),
    "AdamW": lambda: il.AdamW(0.1, eps=0.1, weight_decay=0.0),
    "RMSprop": lambda: il.RMSprop(0.05, eps=0.1, momentum=0.3),
    "Adagrad": lambda: il.Adagrad(0.2, eps=0.1),
    "RAdam": lambda: il.RAdam(0.1, beta2=0.9, eps=0.1),
    "Adamax": lambda: il.Adamax(0.1, beta2=0.3, eps=0.1),
    "Adadelta": lambda: il.Adadelta(eps=0.1),
    # Signs flip: so small a step ends beside the minimum that it starts from.
    "Lion": lambda: il.Lion(1e-7),
    "LearnedUpdate": lambda: il.LearnedUpdate(_Update()),
    "LBFGS": lambda: il.LBFGS(2),
    "BFGS": il.BFGS,
    "NonlinearConjugateGradient": il.NonlinearConjugateGradient,
    "SteepestDescent": il.SteepestDescent,
    "ConjugateGradient": il.ConjugateGradient,
    "ConjugateGradient(Jacobi())": lambda: il.ConjugateGradient(il.Jacobi(2)),
    "MINRES": il.MINRES,
    "MINRES(Nystrom())": lambda: il.MINRES(il.Nystrom(2, damping=0.5)),
    "Nystrom": lambda: il.Nystrom(3, damping=0.7),
    "GaussNewton": lambda: il.GaussNewton(0.9),
    "LevenbergMarquardt": il.LevenbergMarquardt,
    "Newton": lambda: il.Newton(0.9, linear_solver=il.Exact()),
    "Newton(Armijo())": lambda: il.Newton(il.Armijo()),
    "TrustRegion": il.TrustRegion,
    "TrustRegion(Dogleg())": lambda: il.TrustRegion(il.Dogleg()),
    "GaussNewtonTrustRegion": il.GaussNewtonTrustRegion,
    "Exact": il.Exact,
    "GMRES": il.GMRES,
    "Neumann": lambda: il.Neumann(0.3),
    "Ridge": il.Ridge,
    "IRLS": il.IRLS,
    "MaximumLikelihood": il.MaximumLikelihood,
    "FixedPointIteration": lambda: il.FixedPointIteration(0.9),
    "Anderson": lambda: il.Anderson(2),
    "Broyden": il.Broyden,
    "NewtonRaphson": lambda: il.NewtonRaphson(0.9, linear_solver=il.Exact()),
    "NewtonRaphson(Armijo())": lambda: il.NewtonRaphson(il.Armijo()),
    "ProximalGradient": lambda: il.ProximalGradient(0.2),
    # So that its sizes, and what is zero, are the same wherever finite differences are taken.
    "ProximalGradient(Backtracking())": lambda: il.ProximalGradient(il.Backtracking(0.8)),
    "FISTA": lambda: il.FISTA(0.2),
    "MirrorDescent": lambda: il.MirrorDescent(0.5),
}

ADJOINTS: dict[str, Callable[[], il.Adjoint]] = {
    "Unroll": il.Unroll,
    "Auto": il.Auto,
    "Unroll(checkpoint)": lambda: il.Unroll(checkpoint=2),
    "Truncate": lambda: il.Truncate(2),
    "OneStep": il.OneStep,
    # So close that the difference is exact to the accuracy that the tests ask for.
    "FiniteDifference": lambda: il.FiniteDifference(1e-5),
    "FirstOrder": il.FirstOrder,
    "Implicit": il.Implicit,
    "Reptile": il.Reptile,
    "Detach": il.Detach,
}


def refusal(problem: str, solver: str, adjoint: str) -> Exception | None:
    """The error by which `solve` refuses the combination, or None."""
    example = PROBLEMS[problem]()
    try:
        il.solve(
            example.make(example.hyper),
            example.init,
            SOLVERS[solver](),
            steps=0,
            adjoint=ADJOINTS[adjoint](),
        )
    except (TypeError, ValueError) as error:
        return error
    return None


@functools.cache
def supported() -> list[tuple[str, str, str]]:
    """Every combination that goes together."""
    return [
        (problem, solver, adjoint)
        for problem in PROBLEMS
        for solver in SOLVERS
        for adjoint in ADJOINTS
        if refusal(problem, solver, adjoint) is None
    ]


def covering(rows: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Few of the combinations, in which any two choices meet that do in one of them."""
    rows, chosen = list(rows), []
    met: set[Any] = set()
    for least in (3, 2, 1):
        for row in rows:
            new = set(itertools.combinations(enumerate(row), 2)) - met
            if len(new) >= least:
                chosen.append(row)
                met |= new
    return chosen


def table() -> str:
    """The supported pairs as Markdown."""
    combinations = set(supported())

    def rows(columns: list[str], works: Callable[[str, str], bool]) -> list[str]:
        lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for solver in SOLVERS:
            marks = ["yes" if works(solver, column) else "no" for column in columns]
            lines.append(f"| {solver} | {' | '.join(marks)} |")
        return lines

    return "\n".join(
        [
            "# What goes together",
            "",
            "Written by `python tests/pairs.py` from the list of the tests: the gradient of every",
            'combination marked "yes" is tested; every other one is refused with an error.',
            "",
            "## Solvers and problems",
            "",
            *rows(
                list(PROBLEMS),
                lambda s, p: any((p, s, a) in combinations for a in ADJOINTS),
            ),
            "",
            "## Solvers and adjoints",
            "",
            *rows(
                list(ADJOINTS),
                lambda s, a: any((p, s, a) in combinations for p in PROBLEMS),
            ),
            "",
        ]
    )


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
