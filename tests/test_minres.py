"""MINRES: the smallest residual of every Krylov space, whatever the signs of the eigenvalues."""

import pytest
import torch
from scipy.sparse.linalg import minres

import innerloop as il

SIZE = 10


def normal(*shape, seed=0, dtype=torch.float64):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=make, dtype=torch.float64).to(dtype)


def symmetric(eigenvalues, seed=0):
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    q = torch.linalg.qr(normal(len(values), len(values), seed=seed))[0]
    return q @ torch.diag(values) @ q.mT


def spread(*first):
    values = torch.linspace(0.5, 8, SIZE, dtype=torch.float64)
    values[: len(first)] = torch.tensor(first, dtype=torch.float64)
    return values


def system(matrix, right):
    return il.Quadratic(
        lambda v: (matrix.to(v) @ v.unsqueeze(-1)).squeeze(-1), right, right.shape[:-1]
    )


def solve(matrix, right, steps, start=None, preconditioner=None, **options):
    init = torch.zeros_like(right) if start is None else start
    return il.solve(system(matrix, right), init, il.MINRES(preconditioner), steps=steps, **options)


def smallest_residual(matrix, right, start, steps, inverse=None):
    """The minimum over the Krylov space, in the norm of the preconditioner, by least squares."""
    inverse = torch.eye(SIZE, dtype=torch.float64) if inverse is None else inverse
    root = torch.linalg.cholesky(inverse).mT
    residual, columns = right - matrix @ start, []
    vector = inverse @ residual
    for _ in range(steps):
        columns.append(vector / vector.norm())
        vector = inverse @ (matrix @ vector)
    basis = torch.linalg.qr(torch.stack(columns, -1))[0]
    move = torch.linalg.lstsq(root @ matrix @ basis, (root @ residual)[:, None]).solution
    return start + (basis @ move)[:, 0]


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("negative", [(), (-0.3,), (-7.0, -2.0, -0.1)])
def test_every_step_has_the_smallest_residual(negative, steps):
    matrix, right, start = symmetric(spread(*negative)), normal(SIZE), normal(SIZE, seed=1)
    reached = solve(matrix, right, steps, start).value
    torch.testing.assert_close(
        reached, smallest_residual(matrix, right, start, steps), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_preconditioner_changes_the_norm(steps):
    matrix, right = symmetric(spread(-3.0, -0.2)), normal(SIZE)
    inverse = symmetric(spread(), seed=4)
    reached = solve(matrix, right, steps, preconditioner=lambda v: inverse @ v).value
    start = torch.zeros(SIZE, dtype=torch.float64)
    expected = smallest_residual(matrix, right, start, steps, inverse)
    torch.testing.assert_close(reached, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("negative", [(), (-0.3,), (-7.0, -2.0, -0.1)])
def test_it_solves_what_scipy_solves(negative):
    matrix, right = symmetric(spread(*negative)), normal(SIZE)
    reached = solve(matrix, right, SIZE).value
    torch.testing.assert_close(reached, torch.linalg.solve(matrix, right), rtol=1e-9, atol=1e-9)
    found = torch.from_numpy(minres(matrix.numpy(), right.numpy(), rtol=1e-14, maxiter=4)[0])
    torch.testing.assert_close(solve(matrix, right, 4).value, found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_reports_are_those_of_the_parameters(dtype):
    matrix, right = symmetric(spread(-2.0)).to(dtype), normal(SIZE, dtype=dtype)
    problem = system(matrix, right)
    close = 100 * torch.finfo(dtype).eps
    stats = solve(matrix, right, 9).stats
    for step in range(9):
        at = solve(matrix, right, step).value
        norm = (matrix @ at - right).norm()
        torch.testing.assert_close(stats.losses[step], problem.loss(at), rtol=close, atol=close)
        torch.testing.assert_close(stats.gradient_norms[step], norm, rtol=close, atol=close)
    assert (stats.gradient_norms.diff() <= 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_steps_beyond_the_solution_change_nothing(dtype):
    matrix, right = symmetric(spread(-2.0)).to(dtype), normal(SIZE, dtype=dtype)
    reached, later = (solve(matrix, right, steps).value for steps in (3 * SIZE, 9 * SIZE))
    assert torch.equal(reached, later)
    assert (matrix @ later - right).norm() <= 1e3 * torch.finfo(dtype).eps * right.norm()


def test_a_singular_system_without_a_solution_is_solved_by_least_squares():
    matrix, right = symmetric(spread(0.0, 0.0, -1.0)), normal(SIZE)
    solution = solve(matrix, right, 40)
    slope = matrix @ (matrix @ solution.value - right)
    assert slope.norm() < 1e-8
    assert solution.value.norm() < 1e3


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_minimum_stays(start):
    matrix = symmetric(spread(-1.0))
    init = torch.full((SIZE,), start, dtype=torch.float64)
    solution = solve(matrix, matrix @ init, 3, init)
    torch.testing.assert_close(solution.value, init, rtol=1e-12, atol=1e-12)
    assert solution.status <= il.Status.STEPS_USED_UP


def test_problems_of_a_batch_do_not_meet():
    matrices = torch.stack([symmetric(spread(-2.0)), symmetric(spread()), symmetric(spread(0.0))])
    right = torch.stack(
        [normal(SIZE), torch.zeros(SIZE, dtype=torch.float64), normal(SIZE, seed=1)]
    )
    together = solve(matrices, right, 6)
    for i in range(3):
        alone = solve(matrices[i], right[i], 6)
        torch.testing.assert_close(together.value[i], alone.value, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(together.stats.losses[:, i], alone.stats.losses)


def test_one_parameter_and_empty_leaves():
    right = {"a": torch.tensor(3.0, dtype=torch.float64), "none": torch.zeros(0).double()}
    problem = il.Quadratic(lambda v: {"a": -2 * v["a"], "none": v["none"]}, right)
    solution = il.solve(problem, il.trees.zeros_like(right), il.MINRES(), steps=4)
    torch.testing.assert_close(solution.value["a"], torch.tensor(-1.5, dtype=torch.float64))


def test_it_stops_at_the_tolerance():
    solution = solve(symmetric(spread(-2.0)), normal(SIZE), 100, tolerance=1e-6)
    assert solution.status is il.Status.CONVERGED
    assert len(solution.stats.losses) <= SIZE + 2


def test_a_preconditioner_that_is_not_positive_definite_is_a_failure():
    matrix, right = symmetric(spread()), normal(SIZE)
    solution = solve(matrix, right, 3, preconditioner=lambda v: -v, throw=False)
    assert solution.status is il.Status.NOT_FINITE


def test_nan_is_a_failure():
    right = normal(SIZE).index_fill(0, torch.tensor([2]), torch.nan)
    assert solve(symmetric(spread()), right, 3, throw=False).status is il.Status.NOT_FINITE


def test_under_transforms():
    matrices = torch.stack([symmetric(spread(-2.0)), symmetric(spread(), seed=1)])
    right = normal(2, SIZE)

    def outer(matrix, right):
        return solve(matrix, right, 4).value.square().sum()

    gradient = torch.func.vmap(torch.func.grad(outer))(matrices, right)
    for i in range(2):
        leaf = matrices[i].clone().requires_grad_()
        outer(leaf, right[i]).backward()
        torch.testing.assert_close(gradient[i], leaf.grad, rtol=1e-8, atol=1e-8)


def test_derivatives_are_numbers_where_the_solution_was_reached_early():
    matrix = symmetric(torch.full((SIZE,), 2.0)).requires_grad_()
    right = normal(SIZE).requires_grad_()
    value = solve(matrix, right, 5).value
    (gradient,) = torch.autograd.grad(value.sum(), right)
    torch.testing.assert_close(gradient, torch.full((SIZE,), 0.5, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(solve(matrix, right, 5).value.sum(), matrix)
    assert gradient.isfinite().all()


def test_implicit_gradients_of_saddle_points():
    matrix = symmetric(spread(-3.0, -0.5))
    m = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    solution = il.solve(
        lambda p: 0.5 * p @ matrix @ p - m @ p,
        torch.zeros(SIZE, dtype=torch.float64),
        il.GradientDescent(0.05),
        adjoint=il.Implicit(il.MINRES()),
    )
    outer = normal(SIZE, seed=2)
    (gradient,) = torch.autograd.grad(solution.value @ outer, m)
    torch.testing.assert_close(gradient, torch.linalg.solve(matrix, outer), rtol=1e-8, atol=1e-8)
    assert solution.linear.residual < 1e-9
