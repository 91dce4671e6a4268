"""Gradients that are changed before a method follows them, against torch.optim and by hand."""

import copy

import pytest
import torch
from pairs import normal
from torch import nn
from torch.nn import functional as F

import innerloop as il
from innerloop import trees


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


X, Y = normal(5, 3), 20 * normal(5, 2, seed=1)
CLIPS = {
    "norm": (il.ClipNorm(0.5), lambda p: nn.utils.clip_grad_norm_(p, 0.5)),
    "large norm": (il.ClipNorm(1e9), lambda p: nn.utils.clip_grad_norm_(p, 1e9)),
    "value": (il.ClipValue(0.1), lambda p: nn.utils.clip_grad_value_(p, 0.1)),
}
METHODS = {
    "sgd": (
        lambda: il.GradientDescent(0.1, momentum=0.9, weight_decay=0.3),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.3),
    ),
    "adam": (lambda: il.Adam(0.1), lambda p: torch.optim.Adam(p, 0.1)),
}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("method", METHODS)
def test_as_torch_clips(clip, method):
    net = network()
    ours, theirs = CLIPS[clip]
    make, optimizer = METHODS[method]
    adapted = il.adapt(
        net, lambda model: F.mse_loss(model(X), Y), make().transformed(ours), steps=5
    )
    other = copy.deepcopy(net)
    steps = optimizer(other.parameters())
    for _ in range(5):
        steps.zero_grad()
        F.mse_loss(other(X), Y).backward()
        theirs(other.parameters())
        steps.step()
    for name, value in adapted.values.items():
        torch.testing.assert_close(value, other.get_parameter(name), rtol=1e-5, atol=1e-6)


def test_each_problem_has_its_own_norm():
    init = torch.tensor([[3.0, 4.0], [0.3, 0.4]], dtype=torch.float64)
    problem = il.Objective(lambda p: 0.5 * p.square().sum(-1), batch_shape=(2,))
    solver = il.GradientDescent(1.0).transformed(il.ClipNorm(1.0))
    solution = il.solve(problem, init, solver)
    expected = torch.tensor([[2.4, 3.2], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(solution.value, expected)
    # The report is of the gradient as it is.
    torch.testing.assert_close(
        solution.stats.gradient_norms[0], torch.tensor([5.0, 0.5], dtype=torch.float64)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.5, 1e-3])
def test_gradients_whose_squares_are_no_numbers_are_clipped(dtype, size):
    huge = size * torch.finfo(dtype).max
    direction = torch.tensor([0.0, 0.6, -0.8], dtype=dtype)
    problem = il.Objective(lambda p: (huge * direction * p).sum())
    found = il.ClipNorm(2.0)(problem, huge * direction)
    torch.testing.assert_close(found, 2 * direction)
    small = torch.finfo(dtype).tiny * direction
    assert torch.equal(il.ClipNorm(2.0)(problem, small), small)
    for strange in (float("nan"), float("inf")):
        assert il.ClipNorm(2.0)(problem, direction * strange).isnan().any()


@pytest.mark.parametrize("transform", [il.ClipNorm(0.7), il.ClipValue(0.4)], ids=["norm", "value"])
@pytest.mark.parametrize("checkpoint", [None, 2])
def test_gradients_through_clipped_steps(transform, checkpoint):
    solver = il.GradientDescent(0.3, momentum=0.5).transformed(transform)

    def solved(init, data):
        def loss(p):
            return (torch.tanh(data @ p).sum(0) - 3).square().sum()

        return il.solve(loss, init, solver, steps=3, adjoint=il.Unroll(checkpoint)).value

    inputs = normal(3, seed=1).requires_grad_(), normal(4, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(solved, inputs)


def test_a_gradient_of_zero_has_derivatives():
    init = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    solver = il.GradientDescent(0.5).transformed(il.ClipNorm(1.0))
    value = il.solve(lambda p: p.square().sum(), init, solver, steps=2).value
    (gradient,) = torch.autograd.grad(value.sum(), init)
    assert torch.equal(gradient, torch.zeros_like(init))
    half = torch.autograd.grad(
        il.solve(lambda p: 0.1 * p.square().sum(), init, solver, steps=1).value.sum(), init
    )[0]
    torch.testing.assert_close(half, torch.full_like(init, 0.9))


def test_transforms_follow_each_other_and_leave_the_solver():
    plain = il.GradientDescent(1.0)
    double = plain.transformed(lambda problem, g: trees.tree_map(lambda part: 2 * part, g))
    both = double.transformed(il.ClipValue(1.0))
    init = torch.tensor([10.0, 0.25], dtype=torch.float64)
    for solver, expected in ((plain, [9, -0.75]), (double, [8, -1.75]), (both, [9, -0.75])):
        value = il.solve(lambda p: p.sum(), init, solver).value
        assert value.tolist() == expected
    assert plain.transforms == ()


def test_what_the_loss_does_not_reach_stays():
    init = {"a": normal(2), "b": normal(2, seed=1)}
    solver = il.AdamW(0.1, weight_decay=0.5).transformed(il.ClipNorm(0.1))
    value = il.solve(lambda p: p["a"].square().sum(), init, solver, steps=3).value
    assert torch.equal(value["b"], init["b"])


def test_settings_of_each_tensor_are_kept():
    init = {"a": normal(2), "b": normal(2, seed=1)}
    decays = {"a": 0.0, "b": 0.5}
    solver = il.GradientDescent(0.1, weight_decay=decays).transformed(il.ClipValue(0.01))
    value = il.solve(lambda p: p["a"].sum() + p["b"].sum(), init, solver).value
    for name, decay in decays.items():
        expected = init[name] - 0.1 * (0.01 + decay * init[name])
        torch.testing.assert_close(value[name], expected)


@pytest.mark.parametrize("kind", [il.ClipNorm, il.ClipValue])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), "1", None, True])
def test_bounds_out_of_range_are_named(kind, value):
    with pytest.raises((TypeError, ValueError), match=r"max_(norm|value): .*, should be"):
        kind(value)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="transforms: float, should be a function"):
        il.Adam().transformed(1.0)


@pytest.mark.parametrize(
    "adjoint", [il.Unroll(), il.Unroll(checkpoint=2), il.Truncate(2), il.Implicit(), il.Detach()]
)
def test_steps_are_told_of_once_in_order(adjoint):
    init, told = normal(3).requires_grad_(), []
    solution = il.solve(
        lambda p: (p - 1).square().sum(),
        init,
        il.GradientDescent(0.4),
        steps=5,
        adjoint=adjoint,
        on_step=lambda number, report: told.append((number, report.loss)),
    )
    if solution.value.requires_grad:
        solution.value.sum().backward()
    assert [number for number, _ in told] == [*range(5)]
    assert torch.equal(torch.stack([loss for _, loss in told]), solution.stats.losses)
    with pytest.raises(TypeError, match="on_step: int, should be a function"):
        il.solve(lambda p: p.sum(), init, il.GradientDescent(), on_step=3)
