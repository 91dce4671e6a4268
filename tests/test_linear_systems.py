"""Linear systems of implicit gradients and Newton steps: solved, or said not to be."""

import pytest
import torch

import innerloop as il
from innerloop.adjoints.implicit import _System

SIZE = 12


def symmetric(eigenvalues):
    make = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=make, dtype=torch.float64))[0]
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
        right = torch.randn(SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
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
        _System(one_step, problem, start).solve(rounding)
    system = _System(one_step, problem, start)
    system.solve((torch.tensor([1.0, 0.0], dtype=torch.float64),))
    system.solve(rounding)
    assert system.report.residual < 1e-8
