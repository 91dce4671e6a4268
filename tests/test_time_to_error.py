"""The benchmark of times to a given hypergradient error: all ways lead to the same gradient."""

from importlib import import_module

import pytest
import torch

pytest.importorskip("torchopt", reason="compares with TorchOpt, which is not installed: make peers")

time_to_error = import_module("benchmarks.core.time_to_error")
tasks = import_module("benchmarks.core.parts.hypergradient_tasks")


@pytest.fixture(params=tasks.TASKS)
def task(request, monkeypatch):
    monkeypatch.setattr(tasks, "SAMPLES", 30)
    monkeypatch.setattr(tasks, "FEATURES", 3)
    monkeypatch.setattr(tasks, "SPREAD", 1.5)  # few steps suffice
    return tasks.TASKS[request.param]()


def test_the_exact_hypergradient_is_that_of_finite_differences(task):
    generator = torch.Generator().manual_seed(0)
    ways = [torch.randn(h.shape, generator=generator, dtype=h.dtype) for h in task.hyper]

    def outer(step):
        pairs = zip(task.hyper, ways, strict=True)
        moved = task._replace(hyper=tuple(h + step * way for h, way in pairs))
        return task.outer(tasks.minimum(moved)[0])

    slope = (outer(1e-4) - outer(-1e-4)) / 2e-4
    expected = tasks.exact(task) @ torch.cat([way.reshape(-1) for way in ways])
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-10)


def test_losses_are_those_of_the_structured_problems(task):
    w = torch.randn(task.init.shape, dtype=torch.float64)
    hyper = [h + 0.1 for h in task.hyper]
    torch.testing.assert_close(task.problem(*hyper).loss(w), task.loss(w, *hyper))


def test_all_ways_reach_the_exact_hypergradient(task, monkeypatch):
    monkeypatch.setattr(time_to_error, "LADDER", (1, 5, 20, 80))
    reference = tasks.exact(task)
    given = tasks.tuned(tasks.minimum(task)[1])
    for name, way in time_to_error.ways(task, given).items():
        rough, fine = time_to_error.least_budgets(way, reference)
        assert rough is not None, name
        assert fine is not None, name
        assert rough[:2] <= fine[:2]
        found = way.run(*fine[:2])
        assert time_to_error.relative_error(found, reference) == fine[2] <= 1e-5
