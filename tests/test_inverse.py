"""Solutions of positive definite systems, whose derivatives share their factor."""

import pytest
import torch
from pairs import normal

from innerloop.maps.inverse import solve_positive


def system(*batch):
    half = normal(*batch, 4, 6)
    return half @ half.mT, normal(*batch, 4, 2)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_the_solution_is_that_of_the_dense_system(batch):
    matrix, right = system(*batch)
    torch.testing.assert_close(solve_positive(matrix, right), torch.linalg.solve(matrix, right))


def test_derivatives_of_two_orders_are_right():
    matrix, right = system(2)

    def solved(matrix, right):
        return solve_positive(0.5 * (matrix + matrix.mT), right)

    leaves = matrix.requires_grad_(), right.requires_grad_()
    assert torch.autograd.gradcheck(solved, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(solved, leaves)


def test_what_is_not_positive_definite_gives_nan_alone():
    matrix, right = system(2)
    matrix[0] = -matrix[0]
    solution = solve_positive(matrix, right)
    assert solution[0].isnan().all()
    assert solution[1].isfinite().all()
