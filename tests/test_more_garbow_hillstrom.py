"""Levenberg-Marquardt on the test problems of Moré, Garbow and Hillstrom, against MINPACK's."""

import math

import pytest
import torch

from benchmarks.core.more_garbow_hillstrom import compare, evaluations
from benchmarks.core.parts.standard_problems import cases


@pytest.fixture(scope="module")
def rows():
    return [compare(case) for case in cases()]


def test_what_minpack_solves_is_solved(rows):
    missed = [row for row in rows if row.ours is None]
    assert not missed


def test_with_at_most_a_few_more_evaluations(rows):
    assert sum(row.ours for row in rows) <= 1.3 * sum(row.minpack for row in rows)


# From the paper and from MINPACK's own tests.
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("bard", 8.21487e-3),
        ("kowalik_osborne", 3.07505e-4),
        ("meyer", 87.9458),
        ("osborne_1", 5.46489e-5),
        ("osborne_2", 4.01377e-2),
        ("brown_dennis", 85822.2),
        ("jennrich_sampson", 124.362),
        ("gaussian", 1.12793e-8),
        ("watson 6", 2.28767e-3),
        ("watson 9", 1.39976e-6),
        ("penalty_1 4", 2.24997e-5),
        ("penalty_2 4", 9.37629e-6),
        ("chebyquad 8", 3.51687e-3),
        ("powell_badly_scaled", 0),
        ("brown_badly_scaled", 0),
        ("wood", 0),
        ("biggs_exp6", 0),
    ],
)
def test_the_problems_have_their_known_minima(rows, name, least):
    (row,) = (row for row in rows if row.problem == name)
    assert math.isclose(row.ours_reaches, least, rel_tol=1e-5, abs_tol=1e-15)


def test_evaluations_are_counted_from_one():
    assert evaluations([3.0, math.inf, 1.0], 1.5) == 3
    assert evaluations([3.0, math.inf, 1.0], 3.0) == 1
    assert evaluations([3.0, math.inf, 2.0], 1.5) is None


def test_every_problem_has_as_many_residuals_as_parameters_at_least():
    for case in cases():
        assert case.residual(case.start).numel() >= len(case.start)
        assert case.residual(case.start).dtype is torch.float64
