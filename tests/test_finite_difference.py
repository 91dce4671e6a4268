"""The last step differentiated by central differences, against formulas and second derivatives."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il

RATE = 0.07


def normal(*shape, seed=0, dtype=torch.float64):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=make, dtype=torch.float64).to(dtype)


def task(dtype=torch.float64):
    """An inner loss, hyperparameters (log weights of the samples and a decay), and a start."""
    x, y = normal(9, 4, dtype=dtype), normal(9, seed=1, dtype=dtype)
    hyper = [
        (0.3 * normal(9, seed=2, dtype=dtype)).requires_grad_(),
        torch.tensor(0.2, dtype=dtype, requires_grad=True),
    ]

    def loss(w):
        errors = torch.tanh(x @ w) - y
        return (hyper[0].exp() * errors.square()).mean() + hyper[1] * w.pow(4).sum()

    return loss, hyper, normal(4, seed=3, dtype=dtype)


def outer(w):
    return (torch.cos(w) * torch.arange(1, len(w) + 1)).sum()


def gradients(adjoint, solver=None, steps=3, inputs=None):
    loss, hyper, init = task()
    solution = il.solve(
        loss, init, solver or il.GradientDescent(RATE), steps=steps, adjoint=adjoint
    )
    return torch.autograd.grad(outer(solution.value), hyper)


@pytest.mark.parametrize("size", [0.01, 0.1])
def test_it_is_darts(size):
    loss, hyper, w = task()
    (gradient,) = torch.autograd.grad(loss(leaf := w.clone().requires_grad_()), leaf)
    moved = (w - RATE * gradient).requires_grad_()
    (v,) = torch.autograd.grad(outer(moved), moved)
    epsilon = size / v.norm()
    up = torch.autograd.grad(loss(w + epsilon * v), hyper)
    down = torch.autograd.grad(loss(w - epsilon * v), hyper)
    found = gradients(il.FiniteDifference(size), steps=1)
    for a, b, g in zip(up, down, found, strict=True):
        torch.testing.assert_close(g, -RATE * (a - b) / (2 * epsilon), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "solver",
    [
        il.GradientDescent(RATE, momentum=0.9),
        il.Adam(RATE, eps=0.1),
        il.AdamW(RATE, eps=0.1),
        il.GradientDescent(il.Armijo()),
        il.LBFGS(3),
    ],
)
def test_the_error_falls_with_the_square_of_the_size(solver):
    exact = torch.cat([g.reshape(-1) for g in gradients(il.OneStep(), solver)])

    def error(size):
        found = gradients(il.FiniteDifference(size), solver)
        return (torch.cat([g.reshape(-1) for g in found]) - exact).norm() / exact.norm()

    assert error(0.04) < 0.01
    assert 3.9 < error(0.04) / error(0.02) < 4.1


def test_at_the_minimum_it_is_the_implicit_gradient_with_the_rate_for_the_inverse():
    loss, hyper, init = task()
    w = il.solve(loss, init, il.Newton(il.Armijo()), steps=60, adjoint=il.Detach()).value
    w.requires_grad_()
    (slope,) = torch.autograd.grad(loss(w), w, create_graph=True)
    (v,) = torch.autograd.grad(outer(w), w)
    expected = torch.autograd.grad(-RATE * slope @ v, hyper)
    solution = il.solve(
        loss,
        w.detach(),
        il.GradientDescent(RATE),
        steps=2,
        adjoint=il.FiniteDifference(1e-4),
    )
    for a, b in zip(torch.autograd.grad(outer(solution.value), hyper), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_problems_of_a_batch_have_their_own_size():
    scale = torch.tensor([1.0, 1e4], dtype=torch.float64)
    decay = torch.tensor([0.5, 0.2], dtype=torch.float64, requires_grad=True)
    init = normal(2, 3)

    def solved(of):
        problem = il.Objective(
            lambda w: decay[of] * w.pow(4).sum(-1), batch_shape=init[of].shape[:-1]
        )
        adjoint = il.FiniteDifference(0.3)
        value = il.solve(problem, init[of], il.GradientDescent(0.01), adjoint=adjoint).value
        return torch.autograd.grad((scale[of] * value.sum(-1)).sum(), decay)[0]

    together = solved(slice(None))
    torch.testing.assert_close(together, solved(0) + solved(1), rtol=1e-10, atol=1e-10)


def test_where_the_outer_loss_is_flat_the_gradient_is_zero():
    loss, hyper, init = task()
    value = il.solve(loss, init, il.Adam(0.1), steps=2, adjoint=il.FiniteDifference()).value
    for gradient in torch.autograd.grad(0.0 * value.sum(), hyper):
        assert torch.equal(gradient, torch.zeros_like(gradient))


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, outer):
        return 2 * ctx.saved_tensors[0] * outer


def test_no_second_derivative_is_taken():
    h = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    init = normal(3)

    def gradient(adjoint):
        solver = il.GradientDescent(RATE)
        value = il.solve(lambda w: h * _Once.apply(w).sum(), init, solver, adjoint=adjoint).value
        return torch.autograd.grad(value.sum(), h)[0]

    torch.testing.assert_close(gradient(il.FiniteDifference()), -2 * RATE * init.sum())
    with pytest.raises(RuntimeError, match="differentiated"):
        gradient(il.OneStep())


def test_both_points_see_the_same_noise():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 1)).double()
    x, y = normal(12, 3), normal(12, 1, seed=1)
    weights = torch.ones(12, dtype=torch.float64, requires_grad=True)

    def gradient(adjoint):
        torch.manual_seed(0)
        adapted = il.adapt(
            net,
            lambda m: (weights * (m(x) - y).square()[:, 0]).mean(),
            il.GradientDescent(0.1),
            steps=2,
            adjoint=adjoint,
        )
        return torch.autograd.grad(F.mse_loss(adapted(x[:5]), 1 + y[:5]), weights)

    expected, found = gradient(il.OneStep())[0], gradient(il.FiniteDifference(1e-4))[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_it_can_be_differentiated_again():
    h = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    init = normal(3)

    def second(adjoint):
        solver = il.GradientDescent(RATE)
        value = il.solve(lambda w: h.exp() * w.pow(4).sum(), init, solver, adjoint=adjoint).value
        (first,) = torch.autograd.grad(outer(value), h, create_graph=True)
        return torch.autograd.grad(first, h)[0]

    exact = second(il.OneStep())
    torch.testing.assert_close(second(il.FiniteDifference(1e-3)), exact, rtol=1e-5, atol=1e-8)


def test_the_start_of_a_single_step_has_its_gradient_too():
    loss, _, init = task()
    init.requires_grad_()
    for steps in (0, 1):
        found = []
        for adjoint in (il.FiniteDifference(1e-4), il.OneStep()):
            solver = il.GradientDescent(RATE)
            value = il.solve(loss, init, solver, steps=steps, adjoint=adjoint).value
            found.append(torch.autograd.grad(outer(value), init)[0])
        torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)


def test_float32():
    grads = []
    for dtype in (torch.float32, torch.float64):
        loss, hyper, init = task(dtype)
        solver = il.Adam(0.1, eps=0.1)
        value = il.solve(loss, init, solver, steps=3, adjoint=il.FiniteDifference(0.05)).value
        grads.append(torch.autograd.grad(outer(value), hyper[0])[0].double())
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)


def test_what_it_refuses():
    loss, _, init = task()
    adjoint = il.FiniteDifference()
    with pytest.raises(TypeError, match=r"not Newton .*OneStep\(\) works"):
        il.solve(loss, init, il.Newton(), adjoint=adjoint)
    problem = il.LeastSquares(lambda w: w - 1, 0.1)
    with pytest.raises(TypeError, match="not GradientDescent with its settings"):
        il.solve(problem, init, il.GradientDescent(il.ExactLineSearch()), adjoint=adjoint)
    with pytest.raises(ValueError, match=r"transforms; OneStep\(\) does"):
        torch.func.grad(lambda w: il.solve(loss, w, il.Adam(0.1), adjoint=adjoint).value.sum())(
            init
        )
    with pytest.raises(ValueError, match="size: 0"):
        il.FiniteDifference(0.0)
    with pytest.raises(ValueError, match="size: -1"):
        il.FiniteDifference(-1.0)
