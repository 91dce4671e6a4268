"""Early stopping against a loop written by hand, per problem, with its gradient."""

import pytest
import torch
from pairs import normal

import innerloop as il

TARGET, VALID = normal(4, 3, seed=1), normal(4, 3, seed=2)


def loss(params):
    return (params - TARGET).square().sum(-1)


def validation(params):
    return (params - VALID).square().sum(-1)


def problem():
    return il.Objective(loss, batch_shape=(4,))


def by_hand(init, rate, steps, patience):
    """For each problem alone: the best parameters, and how many steps it took."""
    best, taken = [], []
    for i in range(4):
        p = init[i]
        kept, value, waited, count = p, (p - VALID[i]).square().sum(), 0, 0
        while count < steps and waited < patience:
            p = p - rate * 2 * (p - TARGET[i])
            count += 1
            found = (p - VALID[i]).square().sum()
            if found < value:
                kept, value, waited = p, found, 0
            else:
                waited += 1
        best.append(kept)
        taken.append(count)
    return torch.stack(best), taken


@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize("adjoint", [il.Unroll(), il.Unroll(checkpoint=3)], ids=["all", "some"])
def test_each_problem_keeps_its_best(patience, adjoint):
    init = normal(4, 3, seed=3).requires_grad_()
    rate = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    solver = il.EarlyStopping(il.GradientDescent(rate), validation, patience=patience)
    solution = il.solve(problem(), init, solver, steps=60, adjoint=adjoint)
    best, taken = by_hand(init, rate, 60, patience)
    torch.testing.assert_close(solution.value, best)
    assert len(set(taken)) > 1
    assert max(taken) < 60
    expected = -(-max(taken) // 3) * 3 if adjoint.checkpoint else max(taken)
    assert max(taken) <= len(solution.stats.losses) <= expected
    probe = normal(4, 3, seed=4)
    for ours, theirs in zip(
        torch.autograd.grad((probe * solution.value).sum(), (init, rate)),
        torch.autograd.grad((probe * best).sum(), (init, rate)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_without_improvement_the_start_is_kept():
    init = VALID.clone()
    solver = il.EarlyStopping(il.GradientDescent(0.1), validation, patience=2)
    solution = il.solve(problem(), init, solver, steps=10)
    assert torch.equal(solution.value, init)
    assert len(solution.stats.losses) == 2


def test_small_improvements_do_not_count():
    init = normal(4, 3, seed=3)
    solver = il.EarlyStopping(il.GradientDescent(0.05), validation, patience=1, min_delta=1e9)
    assert torch.equal(il.solve(problem(), init, solver, steps=10).value, init)


def test_a_loss_that_is_nan_is_no_improvement():
    init = normal(4, 3, seed=3)
    broken = il.EarlyStopping(
        il.GradientDescent(0.05),
        lambda p: validation(p) * torch.where(p == init, 1, torch.nan)[:, 0],
    )
    assert torch.equal(il.solve(problem(), init, broken, steps=10).value, init)


def test_any_loss_is_better_than_nan_at_the_start():
    init = normal(4, 3, seed=3)

    def late(params):
        return validation(params) * torch.where(params == init, torch.nan, 1)[:, 0]

    solver = il.EarlyStopping(il.GradientDescent(0.05), late)
    value = il.solve(problem(), init, solver, steps=10).value
    assert not (value == init).any()


def test_a_module_is_adapted_until_it_validates_worse():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1).double()
    x, y = normal(20, 3, seed=5), normal(20, 1, seed=6)

    def part(values, which):
        prediction = x[which] @ values["weight"].T + values["bias"]
        return (prediction - y[which]).square().mean()

    train, valid = slice(0, 5), slice(5, 20)
    solver = il.EarlyStopping(il.Adam(0.1), lambda values: part(values, valid), patience=3)
    adapted = il.adapt(
        net, lambda model: (model(x[train]) - y[train]).square().mean(), solver, steps=200
    )
    assert len(adapted.solution.stats.losses) < 200
    full = il.adapt(
        net, lambda model: (model(x[train]) - y[train]).square().mean(), il.Adam(0.1), steps=200
    )
    assert part(adapted.values, valid) < part(full.values, valid)


def test_vmap_keeps_the_best_of_each():
    def solved(init, target, valid):
        solver = il.EarlyStopping(
            il.GradientDescent(0.05), lambda p: (p - valid).square().sum(), patience=2
        )
        return il.solve(lambda p: (p - target).square().sum(), init, solver, steps=30).value

    init = normal(4, 3, seed=3)
    found = torch.func.vmap(solved)(init, TARGET, VALID)
    torch.testing.assert_close(found, by_hand(init, 0.05, 30, 2)[0])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"solver": 3}, TypeError, "solver: int, should be a Solver"),
        ({"solver": il.Ridge()}, ValueError, "solver: Ridge takes a single step"),
        ({"patience": 0}, ValueError, "patience: 0, should be at least 1"),
        ({"min_delta": -1}, ValueError, "min_delta: -1, should not be negative"),
    ],
)
def test_wrong_arguments_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        il.EarlyStopping(**{"solver": il.GradientDescent(), "validation": validation, **changes})


def test_wrong_uses_are_named():
    init, plain = normal(4, 3), il.GradientDescent()
    one = il.EarlyStopping(plain, lambda p: p.sum())
    with pytest.raises(ValueError, match=r"validation: returned shape \(\), should be one loss"):
        il.solve(problem(), init, one)
    with pytest.raises(TypeError, match="SteepestDescent solves"):
        il.solve(problem(), init, il.EarlyStopping(il.SteepestDescent(), validation))
    with pytest.raises(ValueError, match=r"patience: .* not a minimum"):
        il.solve(problem(), init, il.EarlyStopping(plain, validation), adjoint=il.Implicit())
