"""Products with a matrix that is laid out once."""

import pytest
import torch

import innerloop as il
from innerloop.problems.conv import ConvLeastSquares
from innerloop.problems.coordinates import DualCoordinates
from innerloop.problems.packed import multiplier

LARGE = 1100


def symmetric(*batch, size=LARGE, dtype=torch.float32):
    make = torch.Generator().manual_seed(0)
    root = torch.randn(*batch, size, size, generator=make, dtype=dtype)
    return root + root.mT


def rows_like(matrix, count=5):
    make = torch.Generator().manual_seed(1)
    return torch.randn(
        *matrix.shape[:-2], count, matrix.shape[-1], generator=make, dtype=matrix.dtype
    )


def is_laid_out(matrix, rows):
    """Whether later changes of the matrix are not seen."""
    matrix = matrix.clone()
    multiply = multiplier(matrix, rows.shape[-2])
    before = multiply(rows)
    matrix.zero_()
    return bool(multiply(rows).equal(before))


@pytest.mark.parametrize("batch", [(), (1,), (2,), (2, 1)])
@torch.no_grad()
def test_a_large_matrix_is_laid_out_once(batch):
    matrix = symmetric(*batch)
    rows = rows_like(matrix)
    assert is_laid_out(matrix, rows)
    found = multiplier(matrix, 5)(rows)
    exact = rows.double() @ matrix.double()
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "matrix", [symmetric(size=100), symmetric(dtype=torch.float64)], ids=["small", "double"]
)
@torch.no_grad()
def test_others_are_multiplied_as_they_are(matrix):
    rows = rows_like(matrix)
    assert not is_laid_out(matrix, rows)
    torch.testing.assert_close(multiplier(matrix, 5)(rows), rows @ matrix)


def test_products_have_their_gradient():
    matrix = symmetric().requires_grad_()
    rows = rows_like(matrix).requires_grad_()
    multiplier(matrix, 5)(rows).square().sum().backward()
    exact = 2 * (rows.double() @ matrix.double()) @ matrix.double()
    assert (rows.grad - exact).norm() < 1e-5 * exact.norm()
    assert matrix.grad is not None


@torch.no_grad()
def test_products_under_a_transform():
    matrix = symmetric(2)
    rows = rows_like(matrix)
    found = torch.vmap(lambda matrix, rows: multiplier(matrix, 5)(rows))(matrix, rows)
    exact = rows.double() @ matrix.double()
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-3)


def test_no_problems_at_all():
    matrix = torch.zeros(0, LARGE, LARGE)
    with torch.no_grad():
        assert multiplier(matrix, 5)(rows_like(matrix)).shape == (0, 5, LARGE)


def test_steps_in_single_precision_are_those_in_double():
    make = torch.Generator().manual_seed(0)
    sizes = [(2, 1, 300, 33, 34), (2, 1, 9, 33, 34), (2, 9, 300, 3, 3)]
    features, targets, init = (torch.randn(size, generator=make) for size in sizes)
    features, init = features / 34, init / 34

    def solved(*tensors):
        problem = ConvLeastSquares(*tensors[:2], regularization=0.1)
        assert isinstance(problem.coordinates(tensors[2], 60), DualCoordinates)
        solver = il.SteepestDescent()
        return il.solve(problem, tensors[2], solver, steps=60, adjoint=il.Detach()).value

    single = solved(features, targets, init)
    double = solved(features.double(), targets.double(), init.double())
    assert (single - double).norm() < 1e-5 * double.norm()
