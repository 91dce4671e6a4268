"""Losses over batches of data: which step sees which, against loops written by hand."""

import pytest
import torch
from pairs import normal
from torch import nn
from torch.nn import functional as F

import innerloop as il
from innerloop import trees

BATCHES = [(normal(4, 3, seed=i), normal(4, 2, seed=10 + i)) for i in range(3)]


def loss(params, batch):
    inputs, targets = batch
    return F.mse_loss(torch.tanh(inputs @ params["weight"] + params["bias"]), targets)


def start():
    return {
        "weight": normal(3, 2, seed=20).requires_grad_(),
        "bias": normal(2, seed=21).requires_grad_(),
    }


def by_hand(make, init, steps, accumulate=1):
    """The same steps, each a solve of its own that goes on with the state of the one before."""
    value, state = init, None
    for step in range(steps):
        numbers = [(step * accumulate + i) % len(BATCHES) for i in range(accumulate)]

        def mean(params, numbers=numbers):
            return torch.stack([loss(params, BATCHES[i]) for i in numbers]).mean()

        solution = il.solve(mean, value, make(), steps=1, state=state)
        value, state = solution.value, solution.state
    return value


SOLVERS = {
    "plain": lambda: il.GradientDescent(0.3),
    "momentum": lambda: il.GradientDescent(0.3, momentum=0.9),
    "Adam": lambda: il.Adam(0.1),
    "AdamW": lambda: il.AdamW(0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("checkpoint", [None, 2])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 5])
@pytest.mark.parametrize("solver", SOLVERS)
def test_steps_see_the_batches_in_turn(solver, accumulate, checkpoint):
    ours, theirs, make = start(), start(), SOLVERS[solver]
    problem = il.MiniBatches(loss, BATCHES, accumulate=accumulate)
    found = il.solve(problem, ours, make(), steps=5, adjoint=il.Unroll(checkpoint))
    expected = by_hand(make, theirs, 5, accumulate)
    torch.testing.assert_close(found.value, expected, rtol=1e-12, atol=1e-12)
    for value, init in ((found.value, ours), (expected, theirs)):
        sum(leaf.square().sum() for leaf in value.values()).backward()
        assert all(leaf.grad is not None for leaf in init.values())
    for name in ours:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad, rtol=1e-11, atol=1e-12)


def test_the_last_steps_see_their_own_batches():
    init = trees.detach(start())
    problem = il.MiniBatches(loss, [(x, y.requires_grad_()) for x, y in fresh()])
    found = il.solve(problem, init, il.GradientDescent(0.3), steps=4, adjoint=il.Truncate(2))
    gradients = torch.autograd.grad(
        found.value["weight"].sum(), [y for _, y in problem.batches], allow_unused=True
    )
    # Steps 2 and 3 are differentiated, which see the last batch and the first.
    assert [gradient is not None for gradient in gradients] == [True, False, True]


def fresh():
    return [(x.clone(), y.clone()) for x, y in BATCHES]


@pytest.mark.parametrize("make", [il.LBFGS, il.BFGS, il.NonlinearConjugateGradient])
def test_a_search_takes_nothing_of_the_batch_before(make):
    """Without gradients, searches keep the gradient that they end with."""
    init = trees.detach(start())
    found = il.solve(il.MiniBatches(loss, BATCHES), init, make(), steps=4)
    with torch.no_grad():
        again = il.solve(il.MiniBatches(loss, BATCHES), init, make(), steps=4)
    torch.testing.assert_close(again.value, found.value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(again.stats.losses, found.stats.losses)


def test_windows_and_auto_go_on_with_the_next_batch():
    init, solver = start(), il.Adam(0.1)
    problem = il.MiniBatches(loss, BATCHES)
    expected = il.solve(problem, init, solver, steps=8)
    *_, last = il.solve_in_windows(problem, init, solver, steps=8, window=3)
    torch.testing.assert_close(last.value, expected.value)
    for memory in (1e9, 1e4, 0):
        told = []
        found = il.solve(
            problem,
            init,
            solver,
            steps=8,
            adjoint=il.Auto(memory),
            on_step=lambda number, report, told=told: told.append((number, report.loss)),
        )
        torch.testing.assert_close(found.value, expected.value)
        assert [number for number, _ in told] == [*range(8)], found.adjoint
        torch.testing.assert_close(torch.stack([x for _, x in told]), expected.stats.losses)


def test_a_finite_difference_is_of_the_last_batch():
    init = start()
    values = [
        il.solve(
            il.MiniBatches(loss, BATCHES), init, il.GradientDescent(0.3), steps=3, adjoint=adjoint
        ).value["weight"]
        for adjoint in (il.OneStep(), il.FiniteDifference(1e-4))
    ]
    assert torch.equal(*values)


def test_losses_are_those_of_the_batches_seen():
    solution = il.solve(il.MiniBatches(loss, BATCHES), start(), il.GradientDescent(0.0), steps=4)
    expected = torch.stack([loss(start(), BATCHES[i % 3]) for i in range(4)]).detach()
    torch.testing.assert_close(solution.stats.losses, expected)


def test_as_a_whole_it_is_the_mean():
    problem, params = il.MiniBatches(loss, BATCHES, accumulate=2), start()
    expected = sum(loss(params, batch) for batch in BATCHES) / 3
    torch.testing.assert_close(problem.loss(params), expected)
    value, gradient = problem.value_and_gradient(params)
    torch.testing.assert_close(value, expected)
    for part, theirs in zip(
        trees.leaves(gradient), torch.autograd.grad(expected, trees.leaves(params)), strict=True
    ):
        torch.testing.assert_close(part, theirs)


def test_what_a_batch_does_not_reach_stays():
    """As for a loss that does not depend on a tensor: it does not decay or move on."""
    heads = {"a": normal(2, seed=1), "b": normal(2, seed=2)}
    problem = il.MiniBatches(lambda params, name: params[name].square().sum(), ["a", "a", "b"])
    solver = il.AdamW(0.1, weight_decay=0.5)
    two = il.solve(problem, heads, solver, steps=2).value
    assert torch.equal(two["b"], heads["b"])
    three = il.solve(problem, heads, solver, steps=3).value
    assert torch.equal(three["a"], two["a"])
    assert not torch.equal(three["b"], heads["b"])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_module_is_adapted_to_batches(compiled):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    adapted = il.adapt(
        net,
        lambda model, batch: F.mse_loss(model(batch[0]), batch[1]),
        il.GradientDescent(0.2),
        batches=BATCHES,
        accumulate=2,
        steps=4,
        compile=compiled,
    )
    expected = net
    for step in range(4):
        numbers = (2 * step) % 3, (2 * step + 1) % 3
        expected = il.adapt(
            expected,
            lambda model, n=numbers: (
                sum(F.mse_loss(model(x), y) for x, y in map(BATCHES.__getitem__, n)) / 2
            ),
            il.GradientDescent(0.2),
            steps=1,
        )
    x = BATCHES[0][0]
    torch.testing.assert_close(adapted(x), expected(x))
    ours, theirs = (torch.autograd.grad(m(x).sum(), net[0].weight)[0] for m in (adapted, expected))
    torch.testing.assert_close(ours, theirs)


def test_statistics_of_a_task_are_those_over_all_batches():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    adapted = il.adapt(
        net,
        lambda model, batch: F.mse_loss(model(batch[0]), batch[1]),
        il.GradientDescent(0.0),
        batches=BATCHES,
        buffers="per_task",
    )
    means = torch.stack([net[0](x).mean(0) for x, _ in BATCHES])
    torch.testing.assert_close(adapted.state_dict()["1.running_mean"], means.mean(0).detach())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"loss": 3}, TypeError, "loss: int, should be a function of parameters and a batch"),
        ({"batches": iter(BATCHES)}, TypeError, "batches: list_iterator, should be a sequence"),
        ({"batches": dict(enumerate(BATCHES))}, TypeError, "batches: dict, should be a sequence"),
        ({"batches": []}, ValueError, "batches: empty, should hold at least one"),
        ({"accumulate": 0}, ValueError, "accumulate: 0, should be at least 1"),
        ({"accumulate": 1.5}, TypeError, "accumulate: 1.5, should be a whole number"),
    ],
)
def test_wrong_arguments_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        il.MiniBatches(**{"loss": loss, "batches": BATCHES, **changes})


def test_accumulation_needs_batches():
    net = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="accumulate: 2, should be 1 where no batches are given"):
        il.adapt(net, lambda model: model.weight.sum(), il.GradientDescent(), accumulate=2)


def test_solvers_of_structure_refuse_it():
    with pytest.raises(TypeError, match="MiniBatches"):
        il.solve(il.MiniBatches(loss, BATCHES), start(), il.LevenbergMarquardt())
