"""A solve that continues where another stopped, with its momentum, averages and trust region."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il

SOLVERS = {
    "momentum": lambda: il.GradientDescent(0.1, momentum=0.9),
    "plain": lambda: il.GradientDescent(0.1),
    "Adam": lambda: il.Adam(0.1),
    "AdamW": lambda: il.AdamW(0.1),
    "RMSprop": lambda: il.RMSprop(0.05, momentum=0.5),
    "Adagrad": lambda: il.Adagrad(0.3),
    "LevenbergMarquardt": il.LevenbergMarquardt,
    "LevenbergMarquardt without a matrix": lambda: il.LevenbergMarquardt(
        linear_solver=il.ConjugateGradient()
    ),
    "SteepestDescent": il.SteepestDescent,
}
ADJOINTS = [il.Unroll, lambda: il.Unroll(checkpoint=2), lambda: il.Truncate(2), il.Detach]


def problem():
    make = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 9, 4, generator=make).double(), torch.randn(2, 9, 3, generator=make)
    return il.LinearLeastSquares(x, y.double(), regularization=0.1), torch.ones(2, 3, 4).double()


def residual():
    data = torch.linspace(-1, 1, 6, dtype=torch.float64)
    return il.LeastSquares(lambda p: torch.exp(p[0] * data) - p[1] * data - 1.3, 0.1), torch.tensor(
        [0.5, -2.0]
    ).double()


def made(name):
    return residual() if "Levenberg" in name else problem()


@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("name", SOLVERS)
def test_two_solves_are_one(name, adjoint):
    (task, init), solver = made(name), SOLVERS[name]()
    init.requires_grad_()
    whole = il.solve(task, init, solver, steps=7, adjoint=adjoint())
    first = il.solve(task, init, solver, steps=4, adjoint=adjoint())
    rest = il.solve(task, first.value, solver, steps=3, adjoint=adjoint(), state=first.state)
    torch.testing.assert_close(rest.value, whole.value, rtol=1e-10, atol=1e-10)
    if isinstance(adjoint(), il.Unroll):
        found, expected = (torch.autograd.grad(s.value.sum(), init)[0] for s in (rest, whole))
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("adjoint", [il.FirstOrder, il.Reptile])
def test_other_adjoints_hand_momentum_on_as_a_constant(adjoint):
    task, init = problem()
    solver = il.GradientDescent(0.1, momentum=0.9)
    init.requires_grad_()
    first = il.solve(task, init, solver, steps=4, adjoint=adjoint())
    assert not first.state.inner.memory.requires_grad
    rest = il.solve(task, first.value, solver, steps=3, adjoint=il.Detach(), state=first.state)
    whole = il.solve(task, init, solver, steps=7, adjoint=il.Detach())
    torch.testing.assert_close(rest.value, whole.value)


@pytest.mark.parametrize("adjoint", [il.Implicit, il.Reptile])
def test_a_prediction_is_not_handed_on_where_the_parameters_have_another_gradient(adjoint):
    task, init = problem()
    init.requires_grad_()
    assert il.solve(task, init, il.SteepestDescent(), steps=4, adjoint=adjoint()).state is None


def test_modules_go_on_too():
    net, x = nn.Linear(3, 1).double(), torch.ones(4, 3).double()
    solver = il.Adam(0.1)
    loss = lambda model: F.mse_loss(model(x), 2 * x[:, :1])  # noqa: E731
    whole = il.adapt(net, loss, solver, steps=6)
    first = il.adapt(net, loss, solver, steps=4)
    rest = first.adapt(loss, solver, steps=2, state=first.solution.state)
    for name, value in whole.values.items():
        torch.testing.assert_close(rest.values[name], value)


def test_parameters_that_rested_count_their_own_steps():
    init = {"a": torch.ones(2).double(), "b": torch.ones(2).double()}
    solver = il.Adam(0.1)
    only_a = lambda p: p["a"].square().sum()  # noqa: E731
    both = lambda p: only_a(p) + (p["b"] - 3).square().sum()  # noqa: E731
    first = il.solve(only_a, init, solver, steps=3)
    rest = il.solve(both, first.value, solver, steps=2, state=first.state)
    alone = il.solve(lambda p: (p - 3).square().sum(), init["b"], solver, steps=2)
    torch.testing.assert_close(rest.value["b"], alone.value)


def test_a_detached_state_is_copied_and_pickled():
    task, init = problem()
    solver = il.Adam(0.1)
    first = il.solve(task, init.requires_grad_(), solver, steps=3).detach()
    assert isinstance(first.state, il.SolverState)
    assert il.solve(task, init, il.Ridge()).detach().state is None
    for state in (copy.deepcopy(first.state), pickle.loads(pickle.dumps(first.state))):
        again, expected = (
            il.solve(task, first.value, solver, steps=2, state=s).value
            for s in (state, first.state)
        )
        assert torch.equal(again, expected)


def test_what_does_not_fit_is_refused():
    task, init = problem()
    adam, momentum = il.Adam(0.1), il.GradientDescent(0.1, momentum=0.9)
    state = il.solve(task, init, adam, steps=2).state
    with pytest.raises(TypeError, match=r"^state: .* solver is Adam, .* GradientDescent"):
        il.solve(task, init, momentum, state=state)
    with pytest.raises(TypeError, match=r"^state: .* problem is LinearLeastSquares, .* Objective"):
        il.solve(lambda p: p.square().sum(), init, adam, state=state)
    with pytest.raises(ValueError, match=r"^state: .* other names, shapes or dtypes"):
        il.solve(
            il.LinearLeastSquares(task.features, task.targets[..., :1]),
            init[:, :1],
            adam,
            state=state,
        )
    plain = il.solve(task, init, il.GradientDescent(0.1), steps=2).state
    with pytest.raises(ValueError, match=r"^state: .* same settings, such as momentum"):
        il.solve(task, init, momentum, state=plain)
    with pytest.raises(TypeError, match=r"^state: Tensor, should be a SolverState"):
        il.solve(task, init, adam, state=init)
    ridge = il.Ridge()
    nothing = il.SolverState(ridge, task, init, None)
    with pytest.raises(TypeError, match=r"^state: Ridge starts from its parameters only"):
        il.solve(task, init, ridge, state=nothing)
    assert il.solve(task, init, il.Ridge()).state is None
