"""The benchmarks of the core that compare versions: what they run, and what they change."""

import ast

import pytest
import torch

from benchmarks.core import before_after, hypergradients, mutants, rewrites, sufficient_statistics


@pytest.mark.parametrize("name", [n for n in before_after.CASES if n.startswith("overhead")])
def test_cases_run(name):
    before_after.CASES[name]()()


def test_mutants_are_code_and_differ_from_the_file():
    path = mutants.ROOT / "innerloop/solvers/steepest.py"
    original = ast.unparse(ast.parse(path.read_text(encoding="utf-8")))
    found = mutants.mutants(path)
    assert len(found) > 5
    for mutant in found:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        mutants._change(tree, mutant)
        changed = ast.unparse(ast.fix_missing_locations(tree))
        compile(changed, str(path), "exec")
        assert changed != original, mutant


def test_every_file_and_test_is_there():
    for name, tests in mutants.FILES.items():
        assert (mutants.ROOT / name).is_file()
        assert all((mutants.ROOT / f"tests/test_{test}.py").is_file() for test in tests)


def test_variants_name_what_is_there(monkeypatch):
    words = dict(rewrites.rewriting._IN_OTHER_WORDS)
    monkeypatch.setattr(rewrites.rewriting, "_IN_OTHER_WORDS", words)
    for name in ("_keep_what_is_costly", "_numbers_for_booleans"):
        monkeypatch.setattr(rewrites.joint_graph, name, getattr(rewrites.joint_graph, name))
    for apply in rewrites.VARIANTS.values():
        apply()
    assert words == {}


def test_statistics_of_frames_with_forgetting_solve_as_the_frames_do():
    _, excess, _ = sufficient_statistics.cases(sufficient_statistics.make_data(3, size=(12, 16)))
    assert excess["statistics, exact"] < 1e-6
    assert excess["statistics, 20 steps of CG"] <= excess["frames, 5 steps of CG"]


def test_a_rotated_factor_is_that_of_the_sum():
    rows = torch.randn(9, 5, dtype=torch.float64)
    factor = torch.linalg.cholesky(rows[:-1].mT @ rows[:-1])
    rotated = sufficient_statistics.rotated(factor, rows[-1])
    torch.testing.assert_close(rotated, torch.linalg.cholesky(rows.mT @ rows))


def test_hypergradients_of_ridge_are_what_they_should_be(monkeypatch):
    monkeypatch.setattr(hypergradients, "PAIRS", 2)
    task = hypergradients.ridge()
    rows = {row["way"]: row for row in hypergradients.compare("ridge", task._replace(steps=40), 1)}
    assert rows["Unroll()"]["error"] < 1e-8
    assert rows["Unroll(checkpoint=√steps)"]["error"] < 1e-8
    assert rows["Implicit()"]["error"] < 1e-2
    assert rows["FiniteDifference()"]["error"] == pytest.approx(rows["OneStep()"]["error"], rel=0.1)
    assert rows["OneStep()"]["memory"] < rows["Truncate(steps / 4)"]["memory"] < 1
