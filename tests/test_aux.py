"""What a loss returns besides its value comes back with the solution."""

import pickle

import pytest
import torch
from pairs import normal
from torch import nn

import innerloop as il

X, Y = normal(6, 3), normal(6, seed=1)
INIT = normal(3, seed=2)


def fit(params, decay, x=X, y=Y):
    prediction = x @ params
    loss = (prediction - y).square().sum() + decay * params.square().sum()
    return loss, {"prediction": prediction, "rows": len(x)}


def solved(decay, adjoint=None, **options):
    problem = il.Objective(lambda p: fit(p, decay), has_aux=True)
    arguments = {"steps": 4, "adjoint": adjoint, **options}
    return il.solve(problem, INIT, il.GradientDescent(0.02), **arguments)


@pytest.mark.parametrize(
    "adjoint", [il.Unroll(), il.Unroll(checkpoint=2), il.Truncate(2), il.Auto(), il.FirstOrder()]
)
def test_aux_is_that_of_the_solution_and_differentiable(adjoint):
    decay = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    solution = solved(decay, adjoint)
    torch.testing.assert_close(solution.aux["prediction"], X @ solution.value)
    assert solution.aux["rows"] == 6
    plain = il.solve(
        lambda p: fit(p, decay)[0], INIT, il.GradientDescent(0.02), steps=4, adjoint=adjoint
    )
    assert torch.equal(solution.value, plain.value)
    assert plain.aux is None
    if not isinstance(adjoint, il.FirstOrder):
        found, expected = (
            torch.autograd.grad(prediction.square().sum(), decay)[0]
            for prediction in (solution.aux["prediction"], X @ plain.value)
        )
        torch.testing.assert_close(found, expected)
    assert not solution.detach().aux["prediction"].requires_grad


def test_aux_is_constant_where_the_solution_is():
    decay = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    scaled = il.Objective(lambda p: (fit(p, decay)[0], decay * p), has_aux=True)
    solution = il.solve(scaled, INIT, il.GradientDescent(0.02), adjoint=il.Detach())
    assert not solution.aux.requires_grad


def test_under_transforms_and_compiled():
    def outer(decay):
        return solved(decay).aux["prediction"].square().sum()

    decays = torch.tensor([0.1, 0.5], dtype=torch.float64)
    together = torch.func.vmap(torch.func.grad(outer))(decays)
    for decay, gradient in zip(decays, together, strict=True):
        leaf = decay.clone().requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(outer(leaf), leaf)[0], gradient)
    torch._dynamo.reset()
    compiled = torch.compile(torch.func.grad(outer), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(decays[1]), together[1])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_mini_batches_give_that_of_the_last_step(accumulate):
    batches = [(X[i : i + 2], Y[i : i + 2]) for i in (0, 2, 4)]
    problem = il.MiniBatches(
        lambda p, batch: fit(p, 0.1, *batch), batches, accumulate=accumulate, has_aux=True
    )
    rows = il.solve_in_windows(
        problem, INIT, il.GradientDescent(0.02), steps=5, window=2, adjoint=il.Unroll(checkpoint=1)
    )
    for last, solution in zip((1, 3, 4), rows, strict=True):
        seen = [(last * accumulate + i) % 3 for i in range(accumulate)]
        aux = [solution.aux] if accumulate == 1 else solution.aux
        for number, part in zip(seen, aux, strict=True):
            torch.testing.assert_close(part["prediction"], batches[number][0] @ solution.value)


@pytest.mark.parametrize("batches", [None, [(X[:3], Y[:3]), (X[3:], Y[3:])]])
def test_adapted_modules(batches):
    net = nn.Linear(3, 1).double()

    def loss(model, batch=(X, Y)):
        prediction = model(batch[0])[:, 0]
        return (prediction - batch[1]).square().mean(), prediction

    arguments = {"steps": 2, "batches": batches, "has_aux": True}
    adapted = il.adapt(net, loss, il.GradientDescent(0.1), **arguments)
    seen = X if batches is None else batches[1][0]
    torch.testing.assert_close(adapted.solution.aux, adapted(seen)[:, 0])
    adapted.solution.aux.square().sum().backward()
    assert net.weight.grad.abs().sum() > 0
    copied = pickle.loads(pickle.dumps(adapted))
    assert torch.equal(copied.solution.aux, adapted.solution.aux)


def test_a_term_that_is_not_smooth_keeps_it():
    problem = il.Composite(il.Objective(lambda p: fit(p, 0.0), has_aux=True), il.L1(0.1))
    solution = il.solve(problem, INIT, il.ProximalGradient(0.02), steps=3)
    torch.testing.assert_close(solution.aux["prediction"], X @ solution.value)


@pytest.mark.parametrize("returned", [torch.tensor(1.0), (torch.tensor(1.0),), 3])
def test_no_pair_is_refused(returned):
    problem = il.Objective(lambda p: returned, has_aux=True)
    with pytest.raises(TypeError, match=r"^fn: .*a pair of loss and aux"):
        il.solve(problem, INIT, il.GradientDescent(0.1))


def test_a_pair_without_has_aux_is_refused():
    with pytest.raises(TypeError, match="fn: returned tuple"):
        il.solve(lambda p: fit(p, 0.1), INIT, il.GradientDescent(0.1))
