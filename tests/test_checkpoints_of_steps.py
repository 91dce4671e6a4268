"""Checkpointed steps: the gradient of the code that ran, under any circumstances, or an error."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il

STEPS = 4


def data(dtype=torch.float64):
    make = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 3, generator=make, dtype=dtype), torch.randn(8, 1, generator=make)
    return x, y.to(dtype)


def outer_gradient(adjoint, inner_loss, context=None):
    """The gradient of a loss after steps on `inner_loss(model, x, y)`, by the first weight."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the shared generator is what is tested
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x, y = data()

    def solve():
        return il.adapt(
            net,
            lambda m: inner_loss(m, x, y),
            il.GradientDescent(0.2),
            steps=STEPS,
            adjoint=adjoint,
        )

    if context is None:
        adapted = solve()
    else:
        with context():
            adapted = solve()
    return torch.autograd.grad(F.mse_loss(adapted(x), y), net[0].weight)[0]


def with_torch_noise(m, x, y):
    return F.mse_loss(m(x + 0.1 * torch.randn_like(x)), y)


def with_dropout(m, x, y):
    return F.mse_loss(m(F.dropout(x, 0.4)), y)


def with_numpy_noise(m, x, y):
    noise = np.random.standard_normal(tuple(x.shape))  # noqa: NPY002
    return F.mse_loss(m(x + 0.1 * torch.from_numpy(noise)), y)


def with_python_noise(m, x, y):
    return F.mse_loss(m(x * random.uniform(0.5, 1.5)), y)


@pytest.mark.parametrize("checkpoint", [1, 3])
@pytest.mark.parametrize(
    "loss", [with_torch_noise, with_dropout, with_numpy_noise, with_python_noise]
)
def test_random_numbers_of_shared_generators_are_drawn_again(loss, checkpoint):
    expected = outer_gradient(il.Unroll(), loss)
    actual = outer_gradient(il.Unroll(checkpoint=checkpoint), loss)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_the_generators_go_on_from_where_they_were():
    outer_gradient(il.Unroll(), with_torch_noise)
    expected = torch.rand(3), random.random()
    outer_gradient(il.Unroll(checkpoint=2), with_torch_noise)
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]


def depends_on_default_dtype(m, x, y):
    target = torch.full((1,), 1 / 3).double()  # rounded as the default has it
    return (m(x) - target).square().mean()


class DefaultDtype:
    def __enter__(self):
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)

    def __exit__(self, *error):
        torch.set_default_dtype(self.before)


def test_settings_of_torch_are_those_of_the_first_time():
    expected = outer_gradient(il.Unroll(), depends_on_default_dtype, DefaultDtype)
    actual = outer_gradient(il.Unroll(checkpoint=2), depends_on_default_dtype, DefaultDtype)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("around_backward", [False, True])
def test_autocast_is_that_of_the_first_time(around_backward):
    found = []
    x, y = data(torch.float32)
    for adjoint in (il.Unroll(), il.Unroll(checkpoint=2)):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        outside = torch.autocast("cpu", torch.bfloat16, enabled=around_backward)
        with torch.autocast("cpu", torch.bfloat16, enabled=not around_backward):
            adapted = il.adapt(
                net, lambda m: F.mse_loss(m(x).float(), y), il.GradientDescent(0.2), steps=4,
                adjoint=adjoint,
            )  # fmt: skip
            loss = F.mse_loss(adapted(x).float(), y)
        with outside:
            found.append(torch.autograd.grad(loss, net[0].weight)[0])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


def from_a_generator_of_its_own():
    generator = torch.Generator().manual_seed(0)
    return lambda m, x, y: F.mse_loss(
        m(x + torch.randn(x.shape, generator=generator, dtype=x.dtype)), y
    )


def from_a_numpy_generator():
    generator = np.random.default_rng(0)
    return lambda m, x, y: F.mse_loss(m(x * generator.uniform()), y)


def from_batches():
    rows = itertools.cycle(range(8))
    return lambda m, x, y: F.mse_loss(m(x[[next(rows)]]), y[:1])


def from_batches_that_end():
    rows = iter(range(STEPS))
    return lambda m, x, y: F.mse_loss(m(x[[next(rows)]]), y[:1])


def from_a_counter():
    calls = itertools.count(1)
    return lambda m, x, y: next(calls) * F.mse_loss(m(x), y)


@pytest.mark.parametrize(
    "make",
    [
        from_a_generator_of_its_own,
        from_a_numpy_generator,
        from_batches,
        from_batches_that_end,
        from_a_counter,
    ],
)
def test_a_loss_with_another_value_is_noticed(make):
    outer_gradient(il.Unroll(), make())
    with pytest.raises(RuntimeError, match="computed the loss again"):
        outer_gradient(il.Unroll(checkpoint=2), make())


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_how_often_the_loss_is_computed(steps):
    def count(adjoint):
        calls = []
        w = torch.tensor(2.0, requires_grad=True)

        def loss(p):
            calls.append(1)
            return w * (p - 1) ** 2

        value = il.solve(
            loss, torch.tensor(0.0), il.GradientDescent(0.1), steps=steps, adjoint=adjoint
        ).value
        value.backward()
        return len(calls)

    assert count(il.Unroll()) == steps
    assert count(il.Unroll(checkpoint=2)) == 2 * steps
    assert count(il.Truncate(2)) == steps
    assert count(il.Implicit()) == steps + 2


def levels(outer, inner, steps):
    """The gradient, by a and b, of an outer minimum whose loss holds an inner one."""
    a, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.7, 0.3))
    zero = torch.zeros((), dtype=torch.float64)

    def outer_loss(v):
        solution = il.solve(
            lambda w: a * (w - v) ** 2 + 0.1 * w**4 + b * w,
            zero,
            il.GradientDescent(0.2),
            steps=steps,
            adjoint=inner,
        )
        return (solution.value - 1) ** 2 + 0.3 * (v - b) ** 2

    value = il.solve(
        outer_loss, zero + 0.2, il.GradientDescent(0.3), steps=steps, adjoint=outer
    ).value
    return torch.stack(torch.autograd.grad(value, (a, b)))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (il.Unroll(), il.Unroll(checkpoint=1)),
        (il.Unroll(checkpoint=1), il.Unroll()),
        (il.Unroll(checkpoint=2), il.Unroll(checkpoint=1)),
    ],
)
def test_checkpoints_nest(outer, inner):
    expected = levels(il.Unroll(), il.Unroll(), 3)
    torch.testing.assert_close(levels(outer, inner, 3), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (il.Implicit(), il.Implicit()),
        (il.Implicit(), il.Unroll()),
        (il.Implicit(), il.Unroll(checkpoint=8)),
        (il.Unroll(), il.Implicit()),
        (il.Unroll(checkpoint=8), il.Implicit()),
    ],
)
def test_implicit_gradients_nest(outer, inner):
    expected = levels(il.Unroll(), il.Unroll(), 40)
    torch.testing.assert_close(levels(outer, inner, 40), expected, rtol=1e-3, atol=1e-4)
