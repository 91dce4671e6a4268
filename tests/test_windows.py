"""Windows of one solve: its parameters, and the gradient of truncated backpropagation."""

import gc
import weakref

import pytest
import torch

import innerloop as il

DATA = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)
TARGET = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
INIT = torch.tensor([0.3, 0.2, -0.4], dtype=torch.float64)


def hyperparameters():
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.3, 0.1)]


def loss(params, decay):
    return torch.tanh(DATA @ params - 1).square().sum() + decay * params.pow(4).sum()


def outer(params):
    return (params - TARGET).square().sum()


def momentum(params, velocity, gradient, rate, step):
    velocity = 0.8 * velocity + gradient
    return params - rate * velocity, velocity


def adam(params, memory, gradient, rate, step):
    mean = 0.9 * memory[0] + 0.1 * gradient
    square = 0.99 * memory[1] + 0.01 * gradient.square()
    corrected = (square / (1 - 0.99 ** (step + 1))).sqrt() + 0.1
    return params - rate * mean / (1 - 0.9 ** (step + 1)) / corrected, torch.stack([mean, square])


RULES = {
    "momentum": (momentum, torch.zeros(3).double(), lambda r: il.GradientDescent(r, momentum=0.8)),
    "Adam": (adam, torch.zeros(2, 3).double(), lambda r: il.Adam(r, beta2=0.99, eps=0.1)),
}


def by_hand(rule, steps, window, differentiated, outer_rate):
    """Outer losses, gradients by decay, rate and init, and parameters, in a loop of its own."""
    update, memory, _ = RULES[rule]
    decay, rate = hyperparameters()
    init = INIT.clone().requires_grad_()
    params, rows = init, []
    for step in range(steps):
        last = step % window == window - 1 or step == steps - 1
        length = min(window, steps - step // window * window)
        if step % window == 0 and step:
            params, memory = params.detach(), memory.detach()
        if differentiated is not None and step % window == length - differentiated:
            params, memory = params.detach(), memory.detach()
        at = params if params.requires_grad else params.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at, decay), at, create_graph=True)
        params, memory = update(params, memory, gradient, rate, step)
        if last:
            value = outer(params)
            grads = torch.autograd.grad(value, (decay, rate, init), allow_unused=True)
            rows.append((value.detach(), *grads, params.detach()))
            with torch.no_grad():
                decay -= outer_rate * grads[0]
    return rows


@pytest.mark.parametrize("outer_rate", [0.0, 0.01])
@pytest.mark.parametrize(
    ("steps", "window", "differentiated"), [(12, 4, None), (7, 3, None), (9, 3, 2)]
)
@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_those_of_a_loop_by_hand(rule, steps, window, differentiated, outer_rate):
    expected = by_hand(rule, steps, window, differentiated, outer_rate)
    decay, rate = hyperparameters()
    init = INIT.clone().requires_grad_()
    adjoint = il.Truncate(differentiated) if differentiated else None
    rows = il.solve_in_windows(
        lambda p: loss(p, decay),
        init,
        RULES[rule][2](rate),
        steps=steps,
        window=window,
        adjoint=adjoint,
    )
    count = 0
    for solution, (value, *grads, params) in zip(rows, expected, strict=True):
        torch.testing.assert_close(outer(solution.value), value)
        torch.testing.assert_close(solution.value.detach(), params, rtol=1e-12, atol=1e-12)
        found = torch.autograd.grad(outer(solution.value), (decay, rate, init), allow_unused=True)
        for a, b in zip(found, grads, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        with torch.no_grad():
            decay -= outer_rate * found[0]
        count += len(solution.stats.losses)
    assert count == steps


@pytest.mark.parametrize("adjoint", [il.Unroll, lambda: il.Unroll(checkpoint=2), il.FirstOrder])
def test_the_steps_are_those_of_one_solve(adjoint):
    decay = hyperparameters()[0].detach()
    arguments = (lambda p: loss(p, decay), INIT, il.Adam(0.1))
    whole = il.solve(*arguments, steps=10)
    parts = list(il.solve_in_windows(*arguments, steps=10, window=4, adjoint=adjoint()))
    assert [len(part.stats.losses) for part in parts] == [4, 4, 2]
    torch.testing.assert_close(parts[-1].value, whole.value, rtol=1e-13, atol=1e-13)
    losses = torch.cat([part.stats.losses for part in parts])
    torch.testing.assert_close(losses, whole.stats.losses)


def test_a_window_of_all_steps_is_one_solve():
    decay, rate = hyperparameters()
    arguments = (lambda p: loss(p, decay), INIT, il.GradientDescent(rate))
    (only,) = il.solve_in_windows(*arguments, steps=5, window=9)
    whole = il.solve(*arguments, steps=5)
    for a, b in zip(
        torch.autograd.grad(outer(only.value), (decay, rate)),
        torch.autograd.grad(outer(whole.value), (decay, rate)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_problems_are_made_when_their_window_begins():
    log_decay = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    made = []

    def problems():
        while True:
            decay = log_decay.exp()  # a graph that only one backward pass can use
            made.append(float(decay.detach()))
            yield il.LinearLeastSquares(DATA, DATA[:, :1], regularization=decay)

    solver = il.GradientDescent(0.1)
    init = INIT[None]
    for solution in il.solve_in_windows(problems(), init, solver, steps=6, window=2):
        outer(solution.value).backward()
        with torch.no_grad():
            log_decay += 0.1
    assert len(made) == 3
    assert made == sorted(set(made))


def test_the_windows_end_with_the_problems():
    problems = [lambda p: loss(p, 0.1), lambda p: loss(p, 0.2)]
    rows = il.solve_in_windows(problems, INIT, il.Adam(0.1), steps=100, window=3)
    assert [len(row.stats.losses) for row in rows] == [3, 3]


def test_a_direct_solver_takes_one_step_and_no_steps_give_no_window():
    problem = il.LinearLeastSquares(DATA, DATA[:, :1], regularization=0.1)
    assert len(list(il.solve_in_windows(problem, INIT[None], il.Ridge(), steps=9, window=2))) == 1
    assert not list(il.solve_in_windows(problem, INIT[None], il.Adam(0.1), steps=0, window=2))


def test_implicit_gradients_at_the_end_of_windows():
    decay = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    problem = il.LinearLeastSquares(DATA, DATA[:, :1], regularization=decay)
    for solution in il.solve_in_windows(
        problem, INIT[None], il.Newton(), steps=2, window=1, adjoint=il.Implicit()
    ):
        (gradient,) = torch.autograd.grad(outer(solution.value), decay)
    exact = il.solve(problem, INIT[None], il.Ridge()).value
    torch.testing.assert_close(gradient, torch.autograd.grad(outer(exact), decay)[0])


def test_the_graph_of_a_window_is_not_kept():
    decay = hyperparameters()[0]
    seen = []

    def watched(params):
        gc.collect()
        assert all(value() is None for value in seen[:-1])
        return loss(params, decay)

    rows = il.solve_in_windows(watched, INIT, il.Adam(0.1), steps=8, window=2)
    while (solution := next(rows, None)) is not None:
        seen.append(weakref.ref(solution.value))
        solution = None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"window": 0}, ValueError, "window: 0"),
        ({"window": 2.0}, TypeError, "window: 2.0"),
        ({"steps": -1}, ValueError, "steps: -1"),
        ({"solver": 0.1}, TypeError, "solver: float"),
        ({"problem": 3}, TypeError, "problem: int"),
    ],
)
def test_wrong_arguments_are_refused_at_once(change, error, message):
    arguments = {"problem": outer, "init": INIT, "solver": il.Adam(0.1), "steps": 4, "window": 2}
    with pytest.raises(error, match=message):
        il.solve_in_windows(**{**arguments, **change})
