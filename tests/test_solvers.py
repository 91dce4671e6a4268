"""Solvers on their own: against torch.optim, at zero gradients, on hard problems."""

import pytest
import torch
from torch.nn import functional as F

import innerloop as il
from innerloop import trees

PAIRS_WITH_TORCH = [
    (lambda: il.GradientDescent(0.1), torch.optim.SGD, {"lr": 0.1}),
    (
        lambda: il.GradientDescent(0.1, momentum=0.9, weight_decay=0.1),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    ),
    (
        lambda: il.GradientDescent(0.1, momentum=0.9, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    (
        lambda: il.Adam(0.1, beta1=0.8, beta2=0.95, weight_decay=0.1),
        torch.optim.Adam,
        {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.1},
    ),
    (lambda: il.AdamW(0.1), torch.optim.AdamW, {"lr": 0.1}),
    (
        lambda: il.RMSprop(0.1, momentum=0.5, weight_decay=0.1),
        torch.optim.RMSprop,
        {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1},
    ),
    (
        lambda: il.Adagrad(0.1, weight_decay=0.1),
        torch.optim.Adagrad,
        {"lr": 0.1, "weight_decay": 0.1},
    ),
    (lambda: il.RAdam(0.1, weight_decay=0.1), torch.optim.RAdam, {"lr": 0.1, "weight_decay": 0.1}),
    (lambda: il.RAdam(0.1, beta2=0.8), torch.optim.RAdam, {"lr": 0.1, "betas": (0.9, 0.8)}),
    (
        lambda: il.RAdam(0.1, beta2=torch.tensor(0.8, dtype=torch.float64)),
        torch.optim.RAdam,
        {"lr": 0.1, "betas": (0.9, 0.8)},
    ),
    (lambda: il.Adamax(weight_decay=0.1), torch.optim.Adamax, {"weight_decay": 0.1}),
    (lambda: il.Adadelta(weight_decay=0.1), torch.optim.Adadelta, {"weight_decay": 0.1}),
]


ADAPTIVE = [
    *(il.Adam(0.1), il.AdamW(0.1), il.RMSprop(0.1), il.Adagrad(0.1)),
    *(il.RAdam(0.1, beta2=0.8), il.Adamax(0.1), il.Adadelta()),
]


def softplus_loss(params):
    # The last entry never moves the loss: its gradient is exactly zero.
    return F.softplus(params["a"] * 3).sum() + (params["b"][:2] ** 2).sum()


def start():
    return {
        "a": torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64),
        "b": torch.tensor([1.0, -0.5, 0.7], dtype=torch.float64),
    }


@pytest.mark.parametrize(("solver", "optimizer", "options"), PAIRS_WITH_TORCH)
def test_steps_equal_those_of_torch_optim(solver, optimizer, options):
    ours = il.solve(softplus_loss, start(), solver(), steps=8).value
    theirs = {name: value.requires_grad_() for name, value in start().items()}
    outer = optimizer(theirs.values(), **options)
    for _ in range(8):
        outer.zero_grad()
        softplus_loss(theirs).backward()
        outer.step()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value.detach(), rtol=1e-12, atol=1e-13)


def test_steps_of_lion_are_those_of_the_paper():
    beta1, beta2, rate, decay = 0.7, 0.9, 0.1, 0.2
    found = il.Lion(rate, beta1=beta1, beta2=beta2, weight_decay=decay)
    ours = il.solve(softplus_loss, start(), found, steps=6).value
    params, memory = start(), {name: torch.zeros(3, dtype=torch.float64) for name in "ab"}
    for _ in range(6):
        gradients = torch.func.grad(softplus_loss)(params)
        for name, g in gradients.items():
            sign = (beta1 * memory[name] + (1 - beta1) * g).sign()
            params[name] = params[name] - rate * (sign + decay * params[name])
            memory[name] = beta2 * memory[name] + (1 - beta2) * g
    for name, value in params.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_second_derivatives_at_zero_gradients_are_finite(solver):
    init = torch.zeros(4, dtype=torch.float64, requires_grad=True)

    def outer(init):
        return il.solve(lambda p: (p**2).sum(), init, solver, steps=3).value.sum()

    (first,) = torch.autograd.grad(outer(init), init, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), init)
    assert first.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize("solver", ADAPTIVE)
@pytest.mark.parametrize("exponent", range(-30, -15))
def test_second_derivatives_of_small_gradients_are_finite(solver, exponent):
    scale = 10.0**exponent
    x = torch.ones((), requires_grad=True)
    value = il.solve(lambda p: scale * (p * x + p.square() / 2), torch.zeros(()), solver, steps=2)
    (first,) = torch.autograd.grad(value.value, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    assert first.isfinite()
    assert second.isfinite()


@pytest.mark.parametrize(
    ("solver", "argument"),
    [
        (lambda v: il.GradientDescent(v), 0.1),
        (lambda v: il.GradientDescent(0.1, momentum=v), 0.5),
        (lambda v: il.GradientDescent(0.1, momentum=0.5, weight_decay=v), 0.2),
        (lambda v: il.Adam(0.1, beta1=v), 0.8),
        (lambda v: il.Adam(0.1, beta2=v), 0.9),
        (lambda v: il.Adam(0.1, eps=v), 0.1),
        (lambda v: il.AdamW(0.1, weight_decay=v), 0.1),
        (lambda v: il.RMSprop(0.1, alpha=v), 0.9),
        (lambda v: il.RMSprop(0.1, momentum=v), 0.9),
        (lambda v: il.Adagrad(0.1, eps=v), 0.9),
        (lambda v: il.Newton(v), 0.9),
        (lambda v: il.Newton(damping=v), 0.9),
    ],
)
def test_float_arguments_may_be_tensors_with_a_gradient(solver, argument):
    value = torch.tensor(argument, dtype=torch.float64, requires_grad=True)

    def outer(value):
        reached = il.solve(softplus_loss, start(), solver(value), steps=3).value
        return (reached["a"] * torch.arange(3)).sum() + reached["b"].square().sum()

    with_number = il.solve(softplus_loss, start(), solver(argument), steps=3).value
    with_tensor = il.solve(softplus_loss, start(), solver(value), steps=3).value
    torch.testing.assert_close(with_number, with_tensor)
    assert torch.autograd.gradcheck(outer, (value,))
    assert torch.autograd.grad(outer(value), value)[0] != 0


def rosenbrock(p):
    return torch.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])


@pytest.mark.parametrize(
    ("solver", "steps"),
    [
        (il.LevenbergMarquardt(), 60),
        (il.LevenbergMarquardt(linear_solver=il.Exact()), 60),
        (il.GaussNewton(), 5),
        (il.GaussNewton(il.Armijo()), 60),
        (il.Newton(il.Armijo(), linear_solver=il.Exact()), 60),
        (il.Newton(il.Armijo()), 60),
    ],
)
def test_second_order_methods_solve_rosenbrock(solver, steps):
    init = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    value = il.solve(il.LeastSquares(rosenbrock), init, solver, steps=steps).value
    torch.testing.assert_close(value, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-7)


def test_a_batch_of_objectives_is_solved_one_by_one():
    centers = torch.randn(3, 2, dtype=torch.float64)

    def losses(p, centers):
        return torch.cosh(p - centers).sum(-1)

    for solver in (
        il.GradientDescent(il.Armijo()),
        il.Newton(),
        il.Newton(linear_solver=il.Exact()),
    ):
        together = il.solve(
            il.Objective(lambda p: losses(p, centers), batch_shape=(3,)),
            torch.zeros_like(centers),
            solver,
            steps=4,
        )
        for i in range(3):
            alone = il.solve(
                lambda p, i=i: losses(p, centers[i]), torch.zeros(2).double(), solver, steps=4
            )
            torch.testing.assert_close(together.value[i], alone.value, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(together.stats.losses[:, i], alone.stats.losses)


def test_a_preconditioner_of_the_inverse_solves_at_once():
    matrix = torch.diag(torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64))
    right = torch.ones(3, dtype=torch.float64)
    problem = il.Quadratic(lambda v: matrix @ v, right)
    solver = il.ConjugateGradient(preconditioner=lambda g: g / matrix.diag())
    value = il.solve(problem, torch.zeros(3).double(), solver, steps=1).value
    torch.testing.assert_close(value, right / matrix.diag())


def test_irls_is_the_minimum_of_logistic_regression():
    make = torch.Generator().manual_seed(0)
    features = torch.randn(20, 3, generator=make, dtype=torch.float64)
    labels = (torch.rand(20, 2, generator=make) > 0.5).double()
    problem = il.LogisticRegression(features, labels, regularization=0.1)
    init = torch.zeros(2, 3, dtype=torch.float64)
    for form in ("primal", "dual"):
        solution = il.solve(problem, init, il.IRLS(form), steps=30, tolerance=1e-12)
        assert solution.status is il.Status.CONVERGED
        assert len(solution.stats.losses) < 12
        _, gradient = problem.value_and_gradient(solution.value)
        assert gradient.abs().max() < 1e-10


def test_ridge_head_is_the_regularised_least_squares_solution():
    features = torch.randn(4, 7, 3, dtype=torch.float64)
    targets = torch.randn(4, 7, 2, dtype=torch.float64)
    problem = il.LinearLeastSquares(features, targets, regularization=0.3)
    init = torch.zeros(4, 2, 3, dtype=torch.float64)
    gram = features.mT @ features + 0.3 * torch.eye(3)
    expected = torch.linalg.solve(gram, features.mT @ targets).mT
    for solver in (il.Ridge("primal"), il.Ridge("dual"), il.Exact()):
        torch.testing.assert_close(il.solve(problem, init, solver).value, expected)


def test_nested_containers_are_parameters():
    init = {"x": [torch.ones(2), (torch.zeros(3),)]}

    def loss(p):
        return sum(((leaf - 1) ** 2).sum() for leaf in trees.leaves(p))

    value = il.solve(loss, init, il.GradientDescent(0.5), steps=1).value
    assert torch.equal(value["x"][1][0], torch.ones(3))
    assert trees.same_structure(value, init)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "^problem: int", lambda: il.solve(3, torch.ones(2), il.Adam())),
        (TypeError, "^init", lambda: il.solve(softplus_loss, {"a": 1.0}, il.Adam())),
        (ValueError, "^init", lambda: il.solve(softplus_loss, {}, il.Adam())),
        (ValueError, "^init", lambda: il.solve(softplus_loss, torch.ones(2).long(), il.Adam())),
        (
            ValueError,
            "^fn: returned shape",
            lambda: il.solve(lambda p: p, torch.ones(2), il.Adam()),
        ),
        (
            TypeError,
            "^fn: returned float",
            lambda: il.solve(lambda p: 1.0, torch.ones(2), il.Adam()),
        ),
        (ValueError, "^rate: -1", lambda: il.GradientDescent(-1.0)),
        (ValueError, "^beta1: 1", lambda: il.Adam(beta1=1.0)),
        (
            ValueError,
            "^rate",
            lambda: il.solve(
                lambda p: p.sum(), torch.ones(2), il.GradientDescent({"a": torch.ones(2)})
            ),
        ),
        (TypeError, "^linear_solver: Ridge", lambda: il.Newton(linear_solver=il.Ridge())),
        (ValueError, "^checkpoint: 0", lambda: il.Unroll(checkpoint=0)),
        (ValueError, "^shrink: 2", lambda: il.Armijo(shrink=2.0)),
        (
            ValueError,
            "^weight_decay",
            lambda: il.solve(lambda p: p.sum(), torch.ones(2), il.AdamW(), adjoint=il.Implicit()),
        ),
    ],
)
def test_bad_arguments_are_named(error, message, call):
    with pytest.raises(error, match=message):
        call()
