"""Preconditioners and the Nyström inverse: what they are, and that they save steps."""

import pytest
import torch

import innerloop as il
from innerloop.solvers.probing import hadamard, random_signs

SIZE = 24


def normal(*shape, seed=0):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=make, dtype=torch.float64)


def symmetric(values, seed=0):
    q = torch.linalg.qr(normal(len(values), len(values), seed=seed))[0]
    return q @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ q.mT


def system(matrix, right):
    return il.Quadratic(lambda v: matrix @ v, right)


def as_matrix(preconditioner, matrix):
    size = len(matrix)
    right = torch.zeros(size, dtype=matrix.dtype)
    prepared = preconditioner.prepare(system(matrix, right), right)
    units = torch.eye(size, dtype=matrix.dtype)
    return torch.stack([preconditioner.apply(prepared, unit) for unit in units], -1)


def falling(rank):
    """`rank` large eigenvalues above a floor of 0.1."""
    values = torch.full((SIZE,), 0.1, dtype=torch.float64)
    values[:rank] += torch.logspace(3, 1, rank, dtype=torch.float64)
    return values


def test_jacobi_is_the_diagonal_with_enough_probes():
    matrix = symmetric(torch.linspace(1, 3, SIZE))
    expected = torch.diag(1 / matrix.diagonal())
    torch.testing.assert_close(as_matrix(il.Jacobi(SIZE), matrix), expected)


def test_jacobi_is_the_diagonal_of_a_band():
    matrix = torch.diag(2 + torch.rand(SIZE, generator=torch.Generator().manual_seed(0)).double())
    for k in (1, 2, 3):
        band = 0.3 * normal(SIZE - k, seed=k)
        matrix = matrix + torch.diag(band, k) + torch.diag(band, -k)
    found = as_matrix(il.Jacobi(4), matrix)
    torch.testing.assert_close(found, torch.diag(1 / matrix.diagonal()))


@pytest.mark.parametrize("preconditioned", [il.ConjugateGradient, il.MINRES])
def test_jacobi_undoes_scales(preconditioned):
    scales = torch.logspace(-3, 3, SIZE, dtype=torch.float64)
    matrix = scales[:, None] * symmetric(torch.linspace(1, 3, SIZE)) * scales
    problem = system(matrix, scales * normal(SIZE))
    init = torch.zeros(SIZE, dtype=torch.float64)
    plain, scaled = (
        il.solve(problem, init, preconditioned(by), steps=15).value for by in (None, il.Jacobi(32))
    )
    errors = [((matrix @ value - problem.right) / scales).norm() for value in (plain, scaled)]
    assert errors[1] < 1e-3 * errors[0]


def test_jacobi_leaves_what_has_no_curvature_and_is_positive():
    matrix = torch.diag(torch.tensor([2.0, 0.0, -4.0], dtype=torch.float64))
    expected = torch.diag(torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64))
    torch.testing.assert_close(as_matrix(il.Jacobi(4), matrix), expected)


@pytest.mark.parametrize("values", [torch.linspace(0.5, 9, SIZE), torch.linspace(-3, 4, SIZE)])
def test_nystrom_of_full_rank_is_the_damped_inverse(values):
    matrix = symmetric(values)
    shifted = matrix + 0.3 * torch.eye(SIZE, dtype=torch.float64)
    for rank in (SIZE, SIZE + 5):
        found = as_matrix(il.Nystrom(rank, damping=0.3), matrix)
        torch.testing.assert_close(found, torch.linalg.inv(shifted), rtol=1e-7, atol=1e-7)


def test_nystrom_is_the_formula_of_the_paper():
    matrix, rank, damping = symmetric(falling(6)), 4, 0.2
    test = torch.linalg.qr(random_signs(SIZE, rank, matrix))[0]
    image = matrix @ test
    low_rank = image @ torch.linalg.inv(test.mT @ image) @ image.mT
    expected = torch.linalg.inv(low_rank + damping * torch.eye(SIZE, dtype=torch.float64))
    found = as_matrix(il.Nystrom(rank, damping), matrix)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_nystrom_is_exact_for_a_hessian_of_low_rank():
    matrix = symmetric(torch.cat([torch.linspace(1, 4, 5), torch.zeros(SIZE - 5)]))
    shifted = matrix + 0.1 * torch.eye(SIZE, dtype=torch.float64)
    found = as_matrix(il.Nystrom(5, damping=0.1), matrix)
    torch.testing.assert_close(found, torch.linalg.inv(shifted), rtol=1e-7, atol=1e-7)
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    expected = 10 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(as_matrix(il.Nystrom(2, damping=0.1), nothing), expected)


@pytest.mark.parametrize("preconditioned", [il.ConjugateGradient, il.MINRES])
def test_nystrom_saves_steps(preconditioned):
    size = 60
    matrix = symmetric(torch.logspace(3, -1, size, dtype=torch.float64))
    problem = system(matrix, normal(size))

    def steps(preconditioner):
        solver = preconditioned(preconditioner)
        init = torch.zeros(size, dtype=torch.float64)
        return len(il.solve(problem, init, solver, steps=200, tolerance=1e-4).stats.losses)

    assert steps(il.Nystrom(30, damping=0.1)) < 0.5 * steps(None)


def test_nystrom_steps_correct_what_rank_and_damping_leave():
    matrix = symmetric(falling(8))
    problem = system(matrix, normal(SIZE))
    solver = il.Nystrom(8, damping=0.2)
    init = torch.zeros(SIZE, dtype=torch.float64)
    solution = il.solve(problem, init, solver, steps=60, tolerance=1e-8)
    assert solution.status is il.Status.CONVERGED
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, problem.right))


def test_hypergradients_of_nystrom_are_exact_for_the_rank_of_the_dimension():
    matrix = symmetric(torch.linspace(0.5, 9, SIZE))
    m = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    outer = normal(SIZE, seed=2)

    def gradient(adjoint):
        value = il.solve(
            lambda p: 0.5 * p @ matrix @ p - m @ p,
            torch.zeros(SIZE, dtype=torch.float64),
            il.GradientDescent(0.05),
            adjoint=adjoint,
        ).value
        return torch.autograd.grad(value @ outer, m)[0]

    exact = torch.linalg.solve(matrix, outer)
    one = gradient(il.Implicit(il.Nystrom(SIZE, damping=1e-4), steps=1))
    torch.testing.assert_close(one, exact, rtol=1e-3, atol=1e-5)
    more = gradient(il.Implicit(il.Nystrom(SIZE, damping=1e-2), steps=20))
    torch.testing.assert_close(more, exact, rtol=1e-9, atol=1e-9)
    with pytest.raises(il.LinearSolveError):
        gradient(il.Implicit(il.Nystrom(4, damping=1e-2), steps=1))


@pytest.mark.parametrize("preconditioner", [il.Jacobi(2), il.Nystrom(3, damping=0.5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_problems_of_a_batch_have_their_own(preconditioner, dtype):
    features = normal(2, 8, 5).to(dtype)
    targets = normal(2, 8, 3, seed=1).to(dtype)
    init = torch.zeros(2, 3, 5, dtype=dtype)
    solver = il.ConjugateGradient(preconditioner)
    together = il.solve(
        il.LinearLeastSquares(features, targets, regularization=0.1), init, solver, steps=4
    )
    for i in range(2):
        problem = il.LinearLeastSquares(features[i], targets[i], regularization=0.1)
        alone = il.solve(problem, init[i], solver, steps=4)
        close = 1e3 * torch.finfo(dtype).eps
        torch.testing.assert_close(together.value[i], alone.value, rtol=close, atol=close)


@pytest.mark.parametrize("preconditioner", [il.Jacobi(4), il.Nystrom(3, damping=0.5)])
def test_under_transforms(preconditioner):
    matrices = torch.stack([symmetric(torch.linspace(1, 3, 6), seed=i) for i in range(2)])
    right = normal(2, 6)

    def outer(matrix, right):
        solver = il.ConjugateGradient(preconditioner)
        return il.solve(system(matrix, right), right, solver, steps=3).value.square().sum()

    gradient = torch.func.vmap(torch.func.grad(outer))(matrices, right)
    for i in range(2):
        leaf = matrices[i].clone().requires_grad_()
        outer(leaf, right[i]).backward()
        torch.testing.assert_close(gradient[i], leaf.grad, rtol=1e-9, atol=1e-9)


def test_newton_takes_them():
    target = normal(SIZE)
    scales = torch.logspace(-2, 2, SIZE, dtype=torch.float64)

    def loss(p):
        return (scales * (p - target).square()).sum() + 0.1 * (p - target).pow(4).sum()

    def error(preconditioner):
        linear = il.ConjugateGradient(preconditioner)
        solver = il.Newton(linear_solver=linear, linear_steps=3)
        return (il.solve(loss, torch.zeros_like(target), solver, steps=12).value - target).norm()

    assert error(il.Jacobi(32)) < 1e-6 * error(None)


def test_signs():
    like = torch.zeros((), dtype=torch.float64)
    signs = hadamard(16, 16, like)
    torch.testing.assert_close(signs @ signs.mT, 16 * torch.eye(16, dtype=torch.float64))
    signs = random_signs(4000, 8, like)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    gram = signs.mT @ signs / 4000
    assert (gram - torch.eye(8, dtype=torch.float64)).abs().max() < 5 / 4000**0.5
    assert signs.mean(0).abs().max() < 5 / 4000**0.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: il.Jacobi(0), ValueError, "probes: 0"),
        (lambda: il.Jacobi(1.5), TypeError, "probes: 1.5"),
        (lambda: il.Nystrom(0), ValueError, "rank: 0"),
        (lambda: il.Nystrom(3, damping=0.0), ValueError, "damping: 0"),
        (lambda: il.Nystrom(3, damping=-1.0), ValueError, "damping: -1"),
        (lambda: il.ConjugateGradient(3.0), TypeError, "preconditioner: float"),
        (lambda: il.MINRES(il.Jacobi), TypeError, "preconditioner: the class Jacobi"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
