"""The adjoint that is chosen by its memory: which one, why, and with whose gradient."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il
from benchmarks.core.memory import LiveTensors
from innerloop.adjoints import memory

STEPS = 30


def task():
    make = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 6, generator=make).double(), torch.randn(40, generator=make).double()
    decay = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def loss(w):
        return F.softplus(-y * (x @ w)).mean() + decay * w.square().sum()

    return loss, decay, torch.zeros(6, dtype=torch.float64)


def solve(adjoint, rate=0.3, steps=STEPS, solver=None, **options):
    loss, decay, init = task()
    init.requires_grad_()
    solver = solver or il.GradientDescent(rate)
    solution = il.solve(loss, init, solver, steps=steps, adjoint=adjoint, **options)
    outer = (solution.value - 1).square().sum()
    gradient = torch.autograd.grad(outer, (decay, init), allow_unused=True)
    return solution, gradient


def step_size():
    """Bytes that a step keeps, from the sentence of a solve with a known limit."""
    text = solve(il.Auto(2**20))[0].adjoint
    return float(text.split("keep ")[1].split(" MB")[0]) * 2**20 / STEPS


def same(adjoint, chosen, **options):
    solution, found = solve(adjoint, **options)
    _, expected = solve(chosen, **options)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)
    plain = solve(il.Unroll(), **options)[0]
    torch.testing.assert_close(solution.value, plain.value, rtol=1e-12, atol=1e-12)
    for name in ("losses", "gradient_norms", "step_sizes"):
        torch.testing.assert_close(getattr(solution.stats, name), getattr(plain.stats, name))
    assert torch.equal(solution.statuses, plain.statuses)
    return solution.adjoint


def test_everything_fits():
    assert same(il.Auto(2**30), il.Unroll()).startswith(f"Unroll(): all {STEPS} steps keep ")
    assert same("auto", il.Unroll()).startswith("Unroll(): all")
    assert solve(il.Unroll())[0].adjoint is None


def test_chunks_fit():
    text = same(il.Auto(0.5 * STEPS * step_size()), il.Unroll(checkpoint=5))
    assert text.startswith("Unroll(checkpoint=5): ")
    assert "in chunks of 5" in text


def test_the_last_steps_fit():
    text = same(il.Auto(3.5 * step_size()), il.Truncate(3), rate=0.01)
    assert text.startswith("Truncate(3): ")
    assert text.endswith("the solve has not converged")
    assert same(il.Auto(0), il.Truncate(1), rate=0.01).startswith("Truncate(1): ")


def test_a_minimum_has_its_implicit_gradient():
    solution, gradient = solve(il.Auto(0), rate=1.0, steps=60)
    assert solution.adjoint.startswith("Implicit(): ")
    assert solution.adjoint.endswith("the solve has converged")
    assert solution.linear.residual < 1e-3
    exact = solve(il.Implicit(), steps=30, solver=il.Newton())[1][0]
    torch.testing.assert_close(gradient[0], exact, rtol=1e-6, atol=1e-8)


def test_a_solver_without_implicit_gradient_is_truncated():
    solver = il.GradientDescent(1.0, weight_decay=0.1)
    text = same(il.Auto(0), il.Truncate(1), solver=solver, steps=60)
    assert text.startswith("Truncate(1): ")
    assert text.endswith("weight_decay: if it is not zero")


@pytest.mark.parametrize("solver", [il.Adam(0.1), il.GradientDescent(0.1, momentum=0.9)])
def test_memory_of_the_solver_goes_on(solver):
    for limit, adjoint in ((2**30, il.Unroll()), (5 * step_size(), il.Truncate)):
        text = same(il.Auto(limit), il.Unroll(), solver=solver) if limit > 2**20 else None
        if text is None:
            solution, gradient = solve(il.Auto(limit), solver=solver)
            last = int(solution.adjoint.split("(")[1].split(")")[0])
            torch.testing.assert_close(gradient[0], solve(adjoint(last), solver=solver)[1][0])


@pytest.mark.parametrize("layer", [nn.Tanh(), nn.LayerNorm(32)])
def test_what_it_says_is_what_the_steps_keep(layer):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 32), layer, nn.Linear(32, 1))
    x, y = torch.randn(320, 50), torch.randn(320, 1)
    rate = torch.tensor(0.05, requires_grad=True)
    live = {}
    for steps in (10, 20):
        with LiveTensors() as counter:
            adapted = il.adapt(
                net,
                lambda m: F.mse_loss(m(x), y),
                il.GradientDescent(rate),
                steps=steps,
                adjoint=il.Auto(2**29),
            )
            live[steps] = counter._now
        text = adapted.solution.adjoint
        del adapted
    told = float(text.removeprefix("Unroll(): all 20 steps keep ").split(" MB")[0]) * 2**20
    assert told == pytest.approx(2 * (live[20] - live[10]), rel=0.05)


def test_a_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))
    x, y = torch.randn(64, 5), torch.randn(64, 1)
    rate = torch.tensor(0.05, requires_grad=True)
    found = []
    for adjoint in (il.Auto(), il.Auto(1e5), il.Unroll()):
        adapted = il.adapt(
            net, lambda m: F.mse_loss(m(x), y), il.GradientDescent(rate), steps=16, adjoint=adjoint
        )
        found.append((adapted, torch.autograd.grad(F.mse_loss(adapted(x), y), rate)[0]))
    assert found[0][0].solution.adjoint.startswith("Unroll():")
    assert found[1][0].solution.adjoint.startswith("Unroll(checkpoint=4):")
    for _, gradient in found[:2]:
        torch.testing.assert_close(gradient, found[2][1], rtol=1e-4, atol=1e-6)


def test_no_loss_is_computed_twice():
    loss, _, init = task()
    for limit, rate in ((2**30, 0.3), (0, 0.01), (0, 1.0)):
        calls = []

        def counted(w, calls=calls):
            calls.append(1)
            return loss(w)

        solution = il.solve(
            counted, init, il.GradientDescent(rate), steps=60, adjoint=il.Auto(limit)
        )
        # The implicit adjoint takes the gradient at the solution.
        assert len(calls) == 60 + solution.adjoint.startswith("Implicit")


@pytest.mark.parametrize("limit", [0, 2**30])
def test_it_stops_at_the_tolerance(limit):
    solution, _ = solve(il.Auto(limit), rate=1.0, steps=200, tolerance=1e-3)
    plain, _ = solve(il.Unroll(), rate=1.0, steps=200, tolerance=1e-3)
    if limit:
        assert torch.equal(solution.stats.losses, plain.stats.losses)
    assert solution.status is il.Status.CONVERGED
    for steps in (0, 1, 2, 3):
        assert len(solve(il.Auto(limit), steps=steps)[0].stats.losses) == steps


def test_few_steps_no_gradient_and_transforms():
    loss, _, init = task()
    assert solve(il.Auto(0), steps=2)[0].adjoint == "Unroll(): there are at most two steps"
    with torch.no_grad():
        text = il.solve(loss, init, il.Adam(), steps=9, adjoint="auto").adjoint
    assert text == "Unroll(): no gradient is wanted"

    def outer(w, adjoint):
        return il.solve(loss, w, il.Adam(0.1), steps=4, adjoint=adjoint).value.sum()

    torch.testing.assert_close(
        torch.func.grad(outer)(init, il.Auto(0)), torch.func.grad(outer)(init, il.Unroll())
    )


def test_free_memory(monkeypatch):
    free = memory.free_memory(torch.device("cpu"))
    assert free is None or 0 < free < 2**60
    files = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  3000 kB\n"}
    monkeypatch.setattr(memory, "_read", lambda path: files.get(path, ""))
    assert memory.free_memory(torch.device("cpu")) == 3000 * 1024
    files["/sys/fs/cgroup/memory.max"], files["/sys/fs/cgroup/memory.current"] = "5000\n", "2000\n"
    assert memory.free_memory(torch.device("cpu")) == 3000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert memory.free_memory(torch.device("cpu")) == 3000 * 1024
    files.clear()
    with pytest.raises(ValueError, match="memory: not given"):
        solve("auto")


@pytest.mark.parametrize(("memory", "error"), [(-1, ValueError), ("1 GB", TypeError)])
def test_wrong_arguments(memory, error):
    with pytest.raises(error, match="memory: "):
        il.Auto(memory)
    with pytest.raises(TypeError, match="adjoint: str"):
        solve("automatic")
