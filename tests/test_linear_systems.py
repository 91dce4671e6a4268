"""Linear systems of implicit gradients and Newton steps: solved, or said not to be."""

import pytest
import torch

import innerloop as il
from innerloop.adjoints.implicit import _System

SIZE = 12


def normal(*shape, seed):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=make, dtype=torch.float64)


def symmetric(eigenvalues):
    q = torch.linalg.qr(normal(len(eigenvalues), len(eigenvalues), seed=0))[0]
    return q @ torch.diag(torch.as_tensor(eigenvalues, dtype=torch.float64)) @ q.mT


def spread(*first):
    values = torch.linspace(0.5, 10, SIZE, dtype=torch.float64)
    values[: len(first)] = torch.tensor(first, dtype=torch.float64)
    return values


def stationary(matrix, adjoint, right=None):
    """A solution of the quadratic p'Hp / 2 - m'p as a function of m, from wherever it stops."""
    m = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    solution = il.solve(
        lambda p: 0.5 * p @ matrix @ p - m @ p,
        torch.zeros(SIZE, dtype=torch.float64),
        il.GradientDescent(0.05),
        steps=3,
        adjoint=adjoint,
    )
    if right is None:
        right = normal(SIZE, seed=2)
    return m, solution, right


@pytest.mark.parametrize("negative", [(-0.3,), (-0.3, -2.0), (-7.0, -0.01, -1.0)])
def test_conjugate_gradients_go_on_through_negative_curvature(negative):
    matrix = symmetric(spread(*negative))
    m, solution, right = stationary(matrix, il.Implicit())
    (solution.value @ right).backward()
    torch.testing.assert_close(m.grad, torch.linalg.solve(matrix, right), rtol=1e-8, atol=1e-8)
    assert solution.linear.residual < 1e-8


def test_a_flat_direction_is_left_alone_where_nothing_pulls_along_it():
    matrix = symmetric(spread(0.0))
    inside = matrix @ torch.ones(SIZE, dtype=torch.float64)
    m, solution, right = stationary(matrix, il.Implicit(), inside)
    (solution.value @ right).backward()
    torch.testing.assert_close(matrix @ m.grad, right, rtol=1e-8, atol=1e-8)


def test_a_system_without_a_solution_is_an_error():
    _, solution, right = stationary(symmetric(spread(0.0, 0.0)), il.Implicit())
    with pytest.raises(il.LinearSolveError, match="accept"):
        (solution.value @ right).backward()


@pytest.mark.parametrize("rate", [0.5, 50.0])
def test_a_diverging_series_is_an_error(rate):
    adjoint = il.Implicit(il.Neumann(rate), steps=200)
    _, solution, right = stationary(symmetric(spread()), adjoint)
    with pytest.raises(il.LinearSolveError, match="not solved for 1 of 1"):
        (solution.value @ right).backward()


def test_too_few_steps_raise_warn_or_are_accepted():
    matrix = symmetric(spread())
    m, solution, right = stationary(matrix, il.Implicit(steps=2))
    assert solution.linear.residual is None
    with pytest.raises(il.LinearSolveError):
        (solution.value @ right).backward()
    m, solution, right = stationary(matrix, il.Implicit(steps=2, unsolved="warn"))
    with pytest.warns(RuntimeWarning, match="Implicit"):
        (solution.value @ right).backward()
    off = (matrix @ m.grad - right).norm() / right.norm()
    torch.testing.assert_close(solution.linear.residual, off)
    m, solution, right = stationary(matrix, il.Implicit(steps=2, accept=1.0))
    (solution.value @ right).backward()


def test_under_transforms_what_is_not_solved_is_nan():
    matrix = symmetric(spread())
    right = torch.ones(SIZE, dtype=torch.float64)

    def outer(m, steps):
        return (
            right
            @ il.solve(
                lambda p: 0.5 * p @ matrix @ p - m @ p,
                torch.zeros(SIZE, dtype=torch.float64),
                il.GradientDescent(0.05),
                adjoint=il.Implicit(steps=steps),
            ).value
        )

    m = torch.zeros(SIZE, dtype=torch.float64)
    expected = torch.linalg.solve(matrix, right)
    torch.testing.assert_close(torch.func.grad(outer)(m, 50), expected, rtol=1e-8, atol=1e-8)
    assert torch.func.grad(outer)(m, 2).isnan().all()


def test_newton_keeps_its_residuals_and_leaves_what_diverged():
    matrix = symmetric(spread())
    target = torch.ones(SIZE, dtype=torch.float64)

    def run(solver, steps=1):
        return il.solve(
            lambda p: 0.5 * (p - target) @ matrix @ (p - target),
            torch.zeros(SIZE, dtype=torch.float64),
            solver,
            steps=steps,
        )

    assert run(il.Newton()).stats.linear_residuals < 1e-7
    assert 1e-3 < run(il.Newton(linear_steps=2)).stats.linear_residuals < 1
    assert run(il.GradientDescent(0.1)).stats.linear_residuals is None
    diverged = run(il.Newton(linear_solver=il.Neumann(1.0)))
    assert diverged.stats.linear_residuals > 100
    torch.testing.assert_close(diverged.value, matrix @ target)  # minus the gradient at 0


def test_the_residual_is_that_of_each_problem():
    scales = torch.tensor([1.0, 3.0], dtype=torch.float64, requires_grad=True)
    solution = il.solve(
        il.Objective(lambda p: scales * (p - 1) ** 2, batch_shape=(2,)),
        torch.zeros(2, dtype=torch.float64),
        il.GradientDescent(0.1),
        adjoint=il.Implicit(),
    )
    solution.value.sum().backward()
    assert solution.linear.residual.shape == (2,)


def test_later_systems_are_measured_by_the_first():
    # Of a gradient of a gradient, the right-hand side of later systems may be rounding alone.
    diagonal = torch.tensor([1.0, 10.0], dtype=torch.float64)
    start = torch.zeros(2, dtype=torch.float64)
    problem = il.Quadratic(lambda direction: diagonal * direction, start)
    one_step = il.Implicit(steps=1)
    rounding = (1e-9 * torch.ones(2, dtype=torch.float64),)
    with pytest.raises(il.LinearSolveError):
        _System(one_step, problem, start, None).solve(rounding)
    system = _System(one_step, problem, start, None)
    system.solve((torch.tensor([1.0, 0.0], dtype=torch.float64),))
    system.solve(rounding)
    assert system.report.residual < 1e-8


class Counted(il.Objective):
    """Counts its products with the Hessian."""

    def __init__(self, fn, calls):
        super().__init__(fn)
        self.calls = calls

    def hessian_operator(self, params):
        operator = super().hessian_operator(params)

        def counting(direction):
            self.calls.append(1)
            return operator(direction)

        return counting


def outer_step(matrix, m, right, start, linear_solver, calls):
    """The solution of the quadratic by which `stationary` is one, and its gradient by m."""
    solution = il.solve(
        Counted(lambda p: 0.5 * p["p"] @ matrix @ p["p"] - m @ p["p"], calls),
        {"p": torch.zeros_like(right)},
        il.GradientDescent(0.05),
        adjoint=il.Implicit(linear_solver, steps=400, tolerance=1e-6, start=start),
    )
    (gradient,) = torch.autograd.grad(solution.value["p"] @ right, m)
    return solution, gradient


@pytest.mark.parametrize("linear_solver", [il.ConjugateGradient(), il.MINRES(), il.Neumann(0.1)])
def test_a_warm_start_needs_fewer_products_for_the_same_residual(linear_solver):
    size = 80
    right, change = (normal(size, seed=seed) for seed in (2, 3))
    m = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    counts = {True: [], False: []}
    for warm, count in counts.items():
        start = None
        for k in range(4):
            # The Hessian and the outer gradient move a little with every outer step.
            matrix = symmetric(torch.linspace(0.5, 10, size).double() + 1e-4 * k)
            wanted, calls = right + 1e-4 * k * change, []
            solution, gradient = outer_step(matrix, m, wanted, start, linear_solver, calls)
            assert solution.linear.residual <= 1e-6
            exact = torch.linalg.solve(matrix, wanted)
            torch.testing.assert_close(gradient, exact, rtol=1e-4, atol=1e-5)
            start = solution.linear.solution if warm else None
            count.append(len(calls))
    # Half of the digits are known.
    assert max(counts[True][1:]) < 0.7 * min(counts[False]), counts


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20])
def test_any_start_is_safe(scale):
    m = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    matrix = symmetric(spread())
    right = scale * torch.ones(SIZE, dtype=torch.float64)
    start = {"p": torch.linspace(-1, 1, SIZE, dtype=torch.float64)}
    _, gradient = outer_step(matrix, m, right, start, None, [])
    expected = torch.linalg.solve(matrix, right)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5 * scale)


def test_the_solution_of_the_first_system_is_kept_with_any_order():
    matrix = symmetric(spread())
    for order in (1, 2):
        _, solution, right = stationary(matrix, il.Implicit(order=order))
        assert solution.linear.solution is None
        (solution.value @ right).backward()
        expected = torch.linalg.solve(matrix, right)
        torch.testing.assert_close(solution.linear.solution.abs(), expected.abs())
        assert not solution.linear.solution.requires_grad


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        ({"q": torch.zeros(SIZE)}, ValueError, "start: lacks"),
        ({"p": torch.zeros(3, dtype=torch.float64)}, ValueError, r"start\['p'\].*shape \(3,\)"),
        ({"p": torch.zeros(SIZE, dtype=torch.float32)}, ValueError, r"start\['p'\]: torch.float32"),
        ({"p": 1.0}, TypeError, r"start\['p'\]: float"),
    ],
)
def test_a_start_that_does_not_fit(start, error, message):
    m = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    with pytest.raises(error, match=message):
        outer_step(symmetric(spread()), m, torch.ones(SIZE).double(), start, None, [])
