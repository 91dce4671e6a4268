"""The benchmark's plain formulation of steepest descent and the core's agree."""

import pytest
import torch

from benchmarks.core.steepest_descent import OURS, PLAIN, inference, training


@pytest.mark.parametrize(("frames", "steps"), [(1, 6), (2, 3)])
def test_every_case_gives_the_same_iterate(frames, steps):
    cases = inference(frames, steps, size=(6, 8))
    for case in cases.values():
        torch.testing.assert_close(case(), cases[PLAIN](), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2])
def test_both_formulations_give_the_same_gradients(frames):
    cases = training(frames, 5, size=(4, 5), dtype=torch.float64)
    for found, expected in zip(cases[OURS](), cases[PLAIN](), strict=True):
        assert (found - expected).norm() < 1e-9 * expected.norm()
