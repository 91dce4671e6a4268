"""Random bad problems: every solve ends finite, with a status, or in an error that explains."""

import random

import pytest
import torch

import innerloop as il
from innerloop import trees

SOLVERS = [
    lambda: il.GradientDescent(0.1),
    lambda: il.GradientDescent(0.1, momentum=0.9),
    lambda: il.GradientDescent(il.Armijo()),
    lambda: il.Adam(0.1),
    lambda: il.RMSprop(0.1),
    lambda: il.Adagrad(0.1),
    il.SteepestDescent,
    il.ConjugateGradient,
    lambda: il.GaussNewton(linear_steps=4),
    lambda: il.LevenbergMarquardt(linear_steps=4),
    lambda: il.Newton(linear_steps=4),
    lambda: il.Newton(il.Armijo(), linear_steps=4),
    lambda: il.Ridge("primal"),
    lambda: il.Ridge("dual"),
    il.Exact,
    il.IRLS,
]
ADJOINTS = [il.Unroll, il.Detach, il.FirstOrder, il.Implicit, lambda: il.Truncate(1)]
ARGUMENTS = (
    *("features", "targets", "weights", "regularization"),
    *("init", "solver", "adjoint", "rate", "form"),
)
DTYPES = [torch.float64, torch.float32, torch.float32, torch.bfloat16, torch.int64]


def bad_tensor(rng, shape, dtype):
    """A tensor of random scale, perhaps zero, rank-deficient or with NaN or infinity somewhere."""
    value = torch.randn(shape, dtype=torch.float64) * 10.0 ** rng.choice([-20, -8, 0, 0, 0, 8, 20])
    kind = rng.randrange(8)
    if kind == 0:
        value = torch.zeros(shape, dtype=torch.float64)
    elif kind == 1 and value.ndim > 1:
        value = value[..., :1].expand(shape).clone()
    elif kind == 2 and value.numel():
        value.view(-1)[rng.randrange(value.numel())] = rng.choice(
            [float("nan"), float("inf"), -float("inf")]
        )
    return value.to(dtype)


def bad_problem(rng):
    """A problem and where to start, sizes drawn at random and sometimes wrong."""
    dtype = rng.choice(DTYPES) if rng.random() < 0.3 else torch.float64
    batch = rng.choice([(), (), (2,), (0,), (1, 2)])
    size = rng.choice([1, 2, 3, 3, 4]) if rng.random() < 0.97 else 0
    channels = rng.choice([1, 2, 2, 5]) if rng.random() < 0.97 else 0
    outputs = rng.choice([1, 2])
    regularization = rng.choice([0.0, 0.0, 1e-20, 0.1, 1e20, float("inf")])
    if rng.random() < 0.03:
        regularization = rng.choice([-1.0, float("nan")])

    def tensor(*shape):
        if rng.random() < 0.03:
            shape = shape[:-1]
        other = rng.choice(DTYPES) if rng.random() < 0.03 else dtype
        return bad_tensor(rng, shape, other)

    kind = rng.choice(["conv", "linear", "statistics", "logistic", "residual", "objective"])
    if kind == "conv":
        features = tensor(*batch, 2, channels, size, 3)
        targets = tensor(*batch, 2, outputs, size, 3)
        weights = rng.choice([None, tensor(*batch, 2), tensor(*batch, 2, outputs, size, 3)])
        make = lambda: il.ConvLeastSquares(features, targets, weights, regularization)  # noqa: E731
        return make, tensor(*batch, outputs, channels, 3, 3)
    if kind == "statistics":
        features, targets = tensor(*batch, size, channels), tensor(*batch, size, outputs)
        weights = rng.choice([None, tensor(*batch, size)])

        def make():
            statistics = il.Statistics.linear(features, targets, weights)
            return il.NormalEquations(statistics, regularization)

        return make, tensor(*batch, outputs, channels)
    if kind in ("linear", "logistic"):
        features, targets = tensor(*batch, size, channels), tensor(*batch, size, outputs)
        weights = rng.choice([None, tensor(*batch, size)])
        if kind == "linear":
            problem = il.LinearLeastSquares
        else:
            problem, targets = il.LogisticRegression, (targets > 0).to(targets.dtype)
            weights = None if weights is None else weights.abs()
        make = lambda: problem(features, targets, weights, regularization)  # noqa: E731
        return make, tensor(*batch, outputs, channels)
    # What a user's function raises is its own affair: here all shapes and dtypes fit.
    dtype = torch.float64 if dtype == torch.int64 else dtype
    data = bad_tensor(rng, (4, 3), dtype)
    init = {"w": bad_tensor(rng, (3,), dtype), "b": bad_tensor(rng, (4,), dtype)}
    if kind == "residual":
        make = lambda: il.LeastSquares(  # noqa: E731
            lambda p: torch.tanh(data @ p["w"]) - p["b"], regularization
        )
        return make, init
    return lambda: il.Objective(lambda p: (data @ p["w"] - p["b"]).pow(4).sum()), init


def solve_bad(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    make, init = bad_problem(rng)
    options = {"steps": rng.choice([0, 1, 3]), "tolerance": rng.choice([0.0, 1e-3])}
    try:
        problem = make()
        solver, adjoint = rng.choice(SOLVERS)(), rng.choice(ADJOINTS)()
        while not isinstance(problem, solver.solves) and rng.random() < 0.9:
            solver = rng.choice(SOLVERS)()
        while isinstance(adjoint, il.FirstOrder) and rng.random() < 0.7:
            adjoint = rng.choice(ADJOINTS)()
        solution = il.solve(problem, init, solver, adjoint=adjoint, **options)
    except il.SolveError as error:
        failed = error.solution.status
        if failed >= il.Status.BREAKDOWN and failed.sentence in str(error):
            return "status"
        raise
    except (TypeError, ValueError) as error:
        if str(error).startswith(ARGUMENTS):
            return "refused"
        raise
    assert all(leaf.isfinite().all() for leaf in trees.leaves(solution.value))
    assert solution.stats.losses.isfinite().all()
    return "solved"


def run(seeds):
    counts = dict.fromkeys(("solved", "status", "refused"), 0)
    for seed in seeds:
        try:
            counts[solve_bad(seed)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return counts


def test_bad_problems_end_well():
    counts = run(range(600))
    assert all(counts.values()), counts


@pytest.mark.slow
def test_ten_thousand_bad_problems_end_well():
    counts = run(range(600, 10_600))
    print(counts)
    assert all(count > 500 for count in counts.values()), counts
