"""5,000 random problems end in a finite solution and gradient, or an error that explains.

Sizes are tiny; scales, dtypes, batches and settings are drawn at random, many of them bad.
"""

import random
import warnings
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il
from innerloop import trees

PROBLEMS = 5000
PARTS = 10
"""So that a failure says early which problem it was."""

ANY = {
    "GradientDescent": lambda rate: il.GradientDescent(rate),
    "momentum": lambda rate: il.GradientDescent(rate, momentum=0.9, nesterov=True),
    "decay": lambda rate: il.GradientDescent(rate, weight_decay=0.1),
    "Armijo": lambda rate: il.GradientDescent(il.Armijo()),
    "Adam": il.Adam,
    "AdamW": il.AdamW,
    "RMSprop": il.RMSprop,
    "Adagrad": il.Adagrad,
    "Newton": lambda rate: il.Newton(linear_steps=4),
    "Newton, Armijo": lambda rate: il.Newton(il.Armijo(), linear_steps=4),
}
CURVED = {
    "SteepestDescent": lambda rate: il.SteepestDescent(),
    "GaussNewton": lambda rate: il.GaussNewton(damping=rate, linear_steps=4),
    "LevenbergMarquardt": lambda rate: il.LevenbergMarquardt(linear_steps=4),
    "exact search": lambda rate: il.GradientDescent(il.ExactLineSearch()),
}
LINEAR = {
    "ConjugateGradient": lambda rate: il.ConjugateGradient(),
    "Exact": lambda rate: il.Exact(),
    "primal": lambda rate: il.Ridge("primal"),
    "dual": lambda rate: il.Ridge("dual"),
}
OWN = {
    "IRLS": lambda rate: il.IRLS(),
    "MaximumLikelihood": lambda rate: il.MaximumLikelihood(),
}
LINEAR_SYSTEMS = {
    "MINRES": lambda rate: il.MINRES(),
    "MINRES, Nystrom": lambda rate: il.MINRES(il.Nystrom(2)),
    "CG, Jacobi": lambda rate: il.ConjugateGradient(il.Jacobi(2)),
    "Nystrom": lambda rate: il.Nystrom(3, damping=0.5),
}
"""They came later, and have draws of their own."""
SEARCHING = {
    "BFGS": lambda rate: il.BFGS(),
    "LBFGS": lambda rate: il.LBFGS(3),
    "NonlinearConjugateGradient": lambda rate: il.NonlinearConjugateGradient(),
}
SOLVERS = {**ANY, **CURVED, **LINEAR, **OWN}
ADJOINTS = [
    il.Unroll,
    il.Unroll,
    lambda: il.Unroll(checkpoint=2),
    il.Detach,
    il.FirstOrder,
    lambda: il.Implicit(steps=5),
    lambda: il.Truncate(1),
    il.OneStep,
    il.Reptile,
]
LATER_ADJOINTS = [il.FiniteDifference, lambda: il.Implicit(il.MINRES(), steps=20)]
ARGUMENTS = (
    *("features", "targets", "labels", "weights", "regularization", "init", "solver", "adjoint"),
    *("rate", "steps", "tolerance", "loss", "weight_decay", "damping", "form"),
    *("samples", "assignments", "moments"),
)


class Draw:
    """What a problem is made of, drawn from one seed; `bad` draws are rare in a sane problem."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        torch.manual_seed(seed)
        self.bad = self.rng.random() < 0.35
        self.dtype = self.rng.choice([torch.float64, torch.float64, torch.float32])
        if self.bad and self.rng.random() < 0.2:
            self.dtype = self.rng.choice([torch.bfloat16, torch.float16, torch.int64, torch.cfloat])
        self.batch = self.rng.choice([(), (), (2,), (1, 2)])
        if self.bad and self.rng.random() < 0.1:
            self.batch = (0,)

    def badly(self, share):
        return self.bad and self.rng.random() < share

    def size(self):
        return 0 if self.badly(0.03) else self.rng.randint(1, 4)

    def tensor(self, *shape):
        if self.badly(0.02):
            shape = shape[:-1]
        value = torch.randn(shape, dtype=torch.float64)
        if self.badly(0.4):
            value *= 10.0 ** self.rng.choice([-30, -20, -8, 4, 8, 20, 30])
        if self.badly(0.1):
            value = torch.zeros_like(value)
        if self.badly(0.1) and value.ndim > 1:
            value = value[..., :1].expand(value.shape).clone()
        if self.badly(0.05) and value.numel():
            place = self.rng.randrange(value.numel())
            value.view(-1)[place] = self.rng.choice([float("nan"), float("inf"), -float("inf")])
        value = value.to(self.dtype)
        return value.requires_grad_() if self.dtype.is_floating_point else value

    def regularization(self):
        if self.badly(0.5):
            return self.rng.choice([0.0, 1e-30, 1e30, float("inf"), -1.0, float("nan"), 1e-8])
        return self.rng.choice([0.1, 1.0, torch.tensor(0.5, dtype=torch.float64)])


def linear(draw, kind=il.LinearLeastSquares):
    samples, channels, outputs = draw.size(), draw.size(), draw.size()
    x = draw.tensor(*draw.batch, samples, channels)
    y = draw.tensor(*draw.batch, samples, outputs)
    w = draw.rng.choice([None, draw.tensor(*draw.batch, samples)])
    if kind is il.LogisticRegression:
        y, w = (y.detach().abs() > 1).to(y.dtype), None if w is None else w.abs()
    init = draw.tensor(*draw.batch, outputs, channels)
    return lambda: kind(x, y, w, draw.regularization()), init, [x, init]


def conv(draw):
    channels, outputs, height = draw.size(), draw.rng.choice([1, 2, 8]), draw.size()
    x = draw.tensor(*draw.batch, 2, channels, height, 3)
    y = draw.tensor(*draw.batch, 2, outputs, height, 3)
    w = draw.rng.choice([None, draw.tensor(*draw.batch, 2)])
    kernel = draw.rng.choice([1, 3])
    init = draw.tensor(*draw.batch, outputs, channels, kernel, kernel)
    return lambda: il.ConvLeastSquares(x, y, w, draw.regularization()), init, [x, init]


def statistics(draw):
    channels, outputs, samples = draw.size(), draw.size(), draw.size()
    filters = draw.rng.choice([(), (1,), (3,)])
    pixels = (2, 3) if filters else ()
    x = draw.tensor(*draw.batch, samples, channels, *pixels)
    y = draw.tensor(*draw.batch, samples, outputs, *pixels)
    w = draw.rng.choice([None, draw.tensor(*draw.batch, samples)])
    rate = draw.rng.choice([0.0, 2.0, float("nan")]) if draw.badly(0.1) else 0.3
    init = draw.tensor(*draw.batch, outputs, channels, *filters, *filters)

    def make():
        if filters:
            new = il.Statistics.conv(x, y, w, kernel=filters[0])
        else:
            new = il.Statistics.linear(x, y, w)
        return il.NormalEquations(new.updated(new.scaled(2.0), rate), draw.regularization())

    return make, init, [x, init]


def gaussians(draw):
    channels, components, samples = draw.size(), draw.size(), draw.size()
    x = draw.tensor(*draw.batch, samples, channels)
    a = draw.tensor(*draw.batch, samples, components)
    a = a if draw.badly(0.1) else a.abs()
    mean = draw.tensor(*draw.batch, components, channels)
    init = {"mean": mean, "log_variance": draw.tensor(*draw.batch, components, channels)}

    def make():
        moments = il.Moments.of(x, a)
        return il.GaussianMixture(moments + moments.scaled(0.5), draw.regularization())

    return make, init, [x, mean]


def user_tensors(draw):
    # What a user's function raises is its own affair: here all shapes and dtypes fit.
    if not draw.dtype.is_floating_point:
        draw.dtype = torch.float64
    made = []
    for shape in ((4, 3), (3,), (4,)):
        value = draw.tensor(*shape)
        made.append(
            value
            if value.shape == shape
            else torch.zeros(shape, dtype=draw.dtype, requires_grad=True)
        )
    return made


def residual(draw):
    x, w, b = user_tensors(draw)
    init = {"w": w, "b": b}
    make = lambda: il.LeastSquares(  # noqa: E731
        lambda p: torch.tanh(x @ p["w"]) - p["b"], draw.regularization()
    )
    return make, init, [x, w, b]


def objective(draw):
    x, w, b = user_tensors(draw)
    losses = [
        lambda p: (x @ p[0] - p[1]).square().mean(),
        lambda p: F.softplus(x @ p[0]).sum() + p[1].square().sum(),
        lambda p: (x @ p[0] - 1).pow(4).sum(),  # p[1] is unused
        lambda p: F.relu(x @ p[0]).sum() + p[1].abs().sum(),
        lambda p: (x @ w.detach()).square().sum(),  # of no parameter
    ]
    loss = draw.rng.choice(losses if draw.bad else losses[:-1])
    return lambda: il.Objective(loss), [w, b], [x, w, b]


def net(draw):
    x, _, b = user_tensors(draw)
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).to(draw.dtype)
    loss = lambda model: F.mse_loss(model(x), b[:, None])  # noqa: E731
    return module, loss, [x, b, *module.parameters()]


KINDS = {
    "linear": linear,
    "conv": conv,
    "logistic": lambda draw: linear(draw, il.LogisticRegression),
    "residual": residual,
    "objective": objective,
    "net": net,
}
MORE = {"statistics": statistics, "gaussians": gaussians}
"""Kinds that came later and have draws of their own, so that those of the others stay the same."""


def solver_for(draw, kind):
    names = list(ANY)
    if kind in ("linear", "conv", "statistics", "residual"):
        names += list(CURVED)
    if kind in ("linear", "conv", "statistics"):
        names += list(LINEAR)
    if kind == "logistic":
        names.append("IRLS")
    if kind == "gaussians":
        names += ["MaximumLikelihood"] * len(names)
    if draw.badly(0.05):
        names = list(SOLVERS)
    rate = draw.rng.choice([0.0, 1e30, -1.0, float("nan")]) if draw.badly(0.1) else 0.01
    return SOLVERS[draw.rng.choice(names)](rate)


def outcome(seed, kind=None, solvers=None, adjoints=ADJOINTS):
    """How a problem ended; AssertionError or any undocumented error is a defect."""
    draw = Draw(seed)
    kind = kind or draw.rng.choice(list(KINDS))
    made = (KINDS | MORE)[kind](draw)
    options = {
        "steps": draw.rng.randint(0, 5),
        "tolerance": draw.rng.choice([0.0, 0.0, 1e-3]),
    }
    if draw.badly(0.05):
        options["steps"] = draw.rng.choice([-1, 1.5, True])
    if draw.badly(0.05):
        options["tolerance"] = draw.rng.choice([float("nan"), -1.0, float("inf")])
    try:
        options["adjoint"] = adjoint = draw.rng.choice(adjoints)()
        if solvers is None:
            solver = solver_for(draw, kind)
        else:
            solver = solvers[draw.rng.choice(list(solvers))](0.01)
        if kind == "net":
            module, loss, sources = made
            solution = il.adapt(module, loss, solver, **options).solution
        else:
            make, init, sources = made
            solution = il.solve(make(), init, solver, **options)
        leaves = trees.leaves(solution.value)
        assert all(leaf.isfinite().all() for leaf in leaves), "value"
        for name in ("losses", "gradient_norms", "step_sizes"):
            assert getattr(solution.stats, name).isfinite().all(), name
        total = sum(leaf.sum() for leaf in leaves)
        if isinstance(adjoint, il.Detach) or not total.requires_grad:
            return "solved"
        gradients = torch.autograd.grad(total, sources, allow_unused=True)
    except il.SolveError as error:
        status = error.solution.status
        if status >= il.Status.BREAKDOWN and status.sentence in str(error):
            return "status"
        raise
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        # RuntimeError, ArithmeticError: of the linear system of an implicit gradient.
        known = ARGUMENTS if isinstance(error, TypeError | ValueError) else ("adjoint: ",)
        if str(error).startswith(known) and "\n" not in str(error):
            return "refused"
        raise
    assert all(part is None or bool(part.isfinite().all()) for part in gradients), "outer gradient"
    return "solved"


@pytest.mark.parametrize("part", range(PARTS))
def test_random_problems_end_well(part):
    each = PROBLEMS // PARTS
    check_outcomes(range(part * each, (part + 1) * each))


@pytest.mark.parametrize("kind", MORE)
def test_random_problems_of_a_kind_end_well(kind):
    check_outcomes(range(PROBLEMS // PARTS), kind)


@pytest.mark.parametrize("kind", ["linear", "conv", "statistics"])
def test_random_linear_systems_end_well(kind):
    check_outcomes(range(PROBLEMS // PARTS), kind, LINEAR_SYSTEMS)


def test_random_problems_with_searches_end_well():
    check_outcomes(range(PROBLEMS // PARTS), solvers=SEARCHING)


def test_random_problems_with_later_adjoints_end_well():
    gradient_methods = {name: make for name, make in ANY.items() if "Newton" not in name}
    check_outcomes(range(PROBLEMS // PARTS), solvers=gradient_methods, adjoints=LATER_ADJOINTS)


def check_outcomes(seeds, *options, **named):
    counts, each = Counter(), len(seeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            try:
                counts[outcome(seed, *options, **named)] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    print(dict(counts))
    assert counts["solved"] >= each / 2, counts
    assert counts["refused"], counts
    assert counts["status"], counts
