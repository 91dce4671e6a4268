"""Minimisation of the standard test problems, against scipy's methods."""

import pytest
import torch

from benchmarks.core.minimisation import Counted, compare, totals
from benchmarks.core.parts.standard_problems import MINIMISATION, minimisation_cases

SLOW = ("powell_badly_scaled", "brown_badly_scaled", "penalty_2 4", "gulf", "wood")
"""For which some method of scipy needs many evaluations; the benchmark has them."""
QUICK = [c for c in minimisation_cases() if len(c.start) <= 4 and c.name not in SLOW]


@pytest.mark.parametrize(
    "name", ["BFGS", "LBFGS", "TrustRegion(Steihaug())", "TrustRegion(Dogleg())"]
)
def test_what_scipy_solves_is_solved_with_few_more_evaluations(name):
    rows = [compare(name, case) for case in QUICK]
    assert not [row for row in rows if row.ours is None]
    total = totals(rows)[name]
    assert total["ours"] <= 1.5 * total["scipy"], total
    assert total["our_products"] <= 1.5 * total["scipy_products"], total


def test_conjugate_gradients_solve_a_badly_scaled_problem():
    """Where, with a restart instead of a negative factor, rounding stops them early."""
    (case,) = (c for c in minimisation_cases() if c.name == "brown_badly_scaled")
    assert compare("NonlinearConjugateGradient", case).ours is not None


def test_evaluations_are_counted():
    problem = Counted(minimisation_cases()[0])
    x, counter = torch.ones(3, dtype=torch.float64), problem.counter
    problem.value_and_gradient(x)
    assert counter.evaluations == 2
    problem.loss(x + 1)
    assert counter.evaluations == 3
    problem.value_and_gradient(x + 1)
    assert counter.evaluations == 4
    product = problem.hessian_operator(x)
    product(x), product(x)
    assert (counter.evaluations, counter.products) == (4, 2)
    assert counter.lowest == min(seen.loss for seen in counter.seen)
    assert counter.first_at(-1.0) is None


def test_there_are_eighteen_problems():
    assert len(set(MINIMISATION)) == 18
