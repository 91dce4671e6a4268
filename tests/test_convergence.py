"""Steepest descent and conjugate gradients on real features, by the benchmark's own functions."""

from itertools import pairwise

from shared import SHARED, needs_shared

from benchmarks.core.convergence import SOLVERS, excess_losses, first_frame_problem
from innerloop_vos.data import DavisDataset

STEPS = 150


@needs_shared
def test_both_approach_the_exact_solution_and_conjugate_gradients_in_half_the_steps():
    clip = DavisDataset(SHARED / "data" / "DAVIS2016", split="train")["bear"]
    problem, init = first_frame_problem(clip.frames[0], clip.masks[0])
    excess = {solver: excess_losses(problem, init, SOLVERS[solver], STEPS)[0] for solver in SOLVERS}
    steepest, conjugate = excess["steepest descent"], excess["conjugate gradient"]
    assert conjugate[10] <= steepest[20]
    assert abs(conjugate[-1]) < 1e-9
    assert 0 < steepest[-1] < 0.01 * steepest[0]
    assert all(later < earlier for earlier, later in pairwise(steepest))
