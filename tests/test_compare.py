"""`innerloop compare`: its rows against known results, its files, and what users add to it."""

import csv
import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from rich.console import Console

import innerloop as il
from innerloop import compare
from innerloop.cli import main
from innerloop.compare import command, measure, registry
from innerloop.compare.bilevel import exact_outcome
from innerloop.compare.results import Figures, RowResult, SuiteResult
from innerloop.compare.runner import run_suite
from innerloop.compare.suites import conv, hyperparameters, quadratic
from innerloop.compare.suites.random import normal
from innerloop.compare.table import table

FIGURES = set(Figures.__dataclass_fields__)
PEERS = ("higher", "learn2learn", "torchopt")


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test adds is gone after it."""
    registry.load_entry_points()
    for name in ("SUITES", "SOLVERS", "ADJOINTS"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


def run(out, *options):
    code = main(["compare", "--quick", "--rounds", "1", "--out", str(out), *options])
    assert code == 0
    return json.loads((out / "compare.json").read_text())


def rows_of(document, suite=0):
    return {row["name"]: row for row in document["suites"][suite]["rows"]}


def result_of(name, rows):
    suite = registry.SUITES[name](True)
    chosen = [row for row in suite.rows if row.name in rows]
    assert len(chosen) == len(rows)
    return {row.name: row for row in run_suite(name, suite, chosen, 1).rows}


def test_every_file_holds_every_row(tmp_path, capsys):
    document = run(tmp_path, "--suite", "quadratic,sinusoid")
    assert set(document) == {"machine", "versions", "suites"}
    assert document["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert [suite["name"] for suite in document["suites"]] == ["quadratic", "sinusoid"]
    found = [(s["name"], row) for s in document["suites"] for row in s["rows"]]
    with (tmp_path / "compare.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["suite"], line["row"]) for line in lines] == [
        (s, row["name"]) for s, row in found
    ]
    printed, markdown = capsys.readouterr().out, (tmp_path / "compare.md").read_text()
    claims = [f"{row['name']}: {row['verdict']}" for _, row in found]
    assert [line for line in printed.splitlines() if line in set(claims)] == claims
    for (_, row), line in zip(found, lines, strict=True):
        assert row["name"] in markdown
        assert set(row) == {"name", "kind", "verdict", "note", "figures"}
        if row["figures"] is not None:
            assert set(row["figures"]) == FIGURES
            assert set(line) >= FIGURES - {"losses"}
            assert math.isfinite(row["figures"]["gradient_error"])
            assert f"{row['figures']['gradient_error']:.1e}" in printed
            assert float(line["memory_mb"]) == row["figures"]["memory_mb"] > 0
    for suite in document["suites"]:
        baseline = next(row for row in suite["rows"] if row["name"] == suite["baseline"])
        for name, value in baseline["figures"].items():
            assert not name.endswith("_ratio") or value in (1, None)
        assert Image.open(tmp_path / f"{suite['name']}.png").format == "PNG"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "compare.csv",
        "compare.json",
        "compare.md",
        "quadratic.png",
        "sinusoid.png",
    ]


@pytest.mark.parametrize("name", ["sinusoid", "few-shot-8-batchnorm"])
def test_the_libraries_have_the_exact_meta_gradient(name):
    for peer in PEERS:
        pytest.importorskip(peer, reason=f"{peer} is not installed: make peers")
    suite = registry.SUITES[name](True)
    peers = [row for row in suite.rows if row.name in ("higher", "learn2learn", "TorchOpt")]
    assert len(peers) == 3
    for row in run_suite(name, suite, peers, 1).rows:
        assert row.verdict == "exact", row
        assert row.figures.gradient_error_float64 < 1e-12
        assert row.figures.distance < 1e-2


@pytest.mark.parametrize(
    ("norm", "verdict"),
    [
        ("none", "exact"),
        ("groupnorm", "exact"),
        ("rmsnorm", "exact"),
        ("batchnorm", "wrong"),
        ("layernorm", "wrong"),
        ("instancenorm", "wrong"),
    ],
)
def test_the_gradient_of_a_vmapped_mean_is_caught_where_it_is_wrong(norm, verdict):
    right = ["torch.func vmap(grad)", "innerloop vmap", "innerloop Unroll()"]
    results = result_of(f"few-shot-8-{norm}", [*right, "torch.func grad(vmap)"])
    assert all(results[name].verdict == "exact" for name in right)
    suspect = results["torch.func grad(vmap)"]
    assert suspect.verdict == verdict
    assert (suspect.figures.gradient_error_float64 > 1e-4) == (verdict == "wrong")
    assert ("off in double precision" in suspect.note) == (verdict == "wrong")


def test_a_wrong_row_is_red():
    suite = registry.SUITES["few-shot-8-layernorm"](True)
    chosen = [row for row in suite.rows if "grad(vmap)" in row.name]
    console = Console(force_terminal=True)
    with console.capture() as capture:
        for line in table(run_suite("layernorm", suite, chosen, 1)):
            console.print(line)
    assert "\x1b[1;31mtorch.func grad(vmap): wrong" in capture.get()


def test_a_table_fits_eighty_columns_whatever_its_figures():
    figures = Figures(**(dict.fromkeys(FIGURES, 12345.6) | {"loss": -12345.6, "losses": []}))
    names = ["a name, " * 12, "absent"]
    rows = [
        RowResult(names[0], "solver", "approximate", figures=figures),
        RowResult(names[1], "peer", "not installed", "needs it"),
    ]
    suite = SuiteResult("mine", "a problem", "the exact one", names[0], 3, 1, 0.0, rows)
    lines = [line.plain for line in table(suite)]
    assert [line for line in lines if line.startswith(tuple(names))] == [
        f"{row.name}: {row.verdict}" for row in rows
    ]
    assert max(len(line) for line in lines if line.startswith((" ", "─"))) <= 80


def test_the_exact_solution_is_that_of_the_closed_form():
    known = exact_outcome(quadratic.make)
    found = exact_outcome(lambda dtype: replace(quadratic.make(dtype), solution=None))
    assert measure.relative_error(found.gradient, known.gradient) < 1e-10
    assert measure.relative_error(found.solution, known.solution) < 1e-10


def test_the_exact_meta_gradient_is_that_of_finite_differences():
    def make(dtype):
        return hyperparameters.make(12, dtype)

    def outer(hyper):
        value = il.solve(
            bilevel.problem(hyper), bilevel.init, il.Newton(il.Armijo()), steps=30
        ).value
        return bilevel.outer(value, hyper)

    bilevel = make(torch.float64)
    gradient = exact_outcome(make).gradient
    step = 1e-5
    for position, (name, leaf) in enumerate(bilevel.hyper.items()):
        change = step * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0)).double()
        with torch.no_grad():
            ahead, behind = (
                outer({**bilevel.hyper, name: leaf + sign * change}) for sign in (1, -1)
            )
        torch.testing.assert_close(
            (ahead - behind) / 2, (gradient[position] * change).sum(), rtol=1e-4, atol=1e-12
        )


def test_direct_solvers_are_exact_and_better_adjoints_come_closer():
    results = result_of(
        "quadratic",
        ["exact", "gradient descent", "conjugate gradient", "gradient descent + OneStep()"],
    )
    assert results["exact"].verdict == "exact"
    errors = {name: row.figures.gradient_error for name, row in results.items()}
    assert errors["exact"] < errors["conjugate gradient"] < errors["gradient descent"]
    assert errors["gradient descent"] < errors["gradient descent + OneStep()"]
    assert len(results["gradient descent"].figures.losses) == 11


def test_statistics_give_what_the_frames_give():
    frames = ["conjugate gradient", "ridge (closed form)"]
    sums = [f"{name}, statistics" for name in frames]
    results = result_of("statistics", ["steepest descent", *frames, *sums])
    for name, other in zip(frames, sums, strict=True):
        figures, expected = results[other].figures, results[name].figures
        assert figures.losses == pytest.approx(expected.losses, rel=1e-4)
        assert figures.gradient_error == pytest.approx(expected.gradient_error, rel=0.1, abs=1e-9)
    assert results["ridge (closed form), statistics"].verdict == "exact"


def test_checkpointing_keeps_the_gradient_of_features_that_are_convolved():
    """Found by the full run: an autograd Function hid the features from the checkpoint."""
    frames = conv.Frames(normal(2, 8, 4, 5, seed=0), normal(2, 16, 4, 5, seed=1))
    suite = conv.conv_suite("channels", frames, 4, regularization=0.1)
    rows = {row.name: row.prepare(torch.float64)(compare.Clock()) for row in suite.rows}
    checkpointed = rows["conjugate gradient + Unroll(checkpoint)"].gradient
    assert measure.relative_error(checkpointed, rows["conjugate gradient"].gradient) < 1e-12


MINE = """
import torch
import innerloop as il
from innerloop import compare

class Half(il.GradientDescent):
    pass

def make(dtype):
    target = torch.arange(3.0, dtype=dtype)
    return compare.Bilevel(
        hyper=torch.ones(3, dtype=dtype),
        problem=lambda scale: il.Objective(lambda p: (p - scale * target).square().sum()),
        init=torch.zeros(3, dtype=dtype),
        outer=lambda value, scale: value.square().sum(),
    )

compare.add_solver("my solver", Half(0.5))
compare.add_adjoint("my adjoint", il.Truncate(1))
compare.add_problem("my problem", make, steps=3)
"""


def test_a_users_file_joins(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    out = tmp_path / "out"
    document = run(out, "--module", str(path), "--suite", "my problem,quadratic")
    mine, known = rows_of(document, 1), rows_of(document, 0)
    assert "my solver" in known
    assert "gradient descent + my adjoint" in known
    # One step of rate 1/2 reaches the minimum of a square: the gradient of |s t|² is 2 s t².
    assert mine["my solver"]["figures"]["gradient_error_float64"] < 1e-12
    assert mine["my solver"]["figures"]["distance"] < 1e-6
    assert "steepest descent" not in mine  # which an Objective has no structure for


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "fails: ZeroDivisionError"),
        ("x = 1", "adds nothing"),
        ("from innerloop import compare; compare.add_solver('a', 3)", "solver 'a': 3, should be"),
        ("from innerloop import compare; compare.add_adjoint('a', 3)", "adjoint 'a': 3, should be"),
        (
            "from innerloop import compare; compare.add_suite('ridge', None)",
            "suite 'ridge' exists already",
        ),
        (
            "from innerloop import compare; compare.add_problem('a', None, steps=0)",
            "steps: 0 of problem 'a'",
        ),
    ],
)
def test_a_users_file_that_fails_is_named(tmp_path, capsys, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert main(["compare", "--list", "--module", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert message in error


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda dtype: 3, "returned 3, should be a Bilevel"),
        (
            lambda dtype: compare.Bilevel(torch.ones(2), il.Objective, torch.ones(2), None),
            "hyper: torch.float32, should be a tensor of the dtype that was asked for",
        ),
        (
            lambda dtype: compare.Bilevel(
                torch.ones(1, dtype=dtype),
                lambda h: il.Objective(lambda p: (h * p).sum()),
                torch.ones(1, dtype=dtype),
                lambda value, h: value.sum(),
            ),
            "no exact solution",
        ),
    ],
)
def test_a_problem_that_does_not_fit_is_bad_input(make, message, capsys):
    compare.add_problem("mine", make)
    assert main(["compare", "--suite", "mine", "--rounds", "1"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suite", "nothing"], "--suite: 'nothing' matches none of quadratic"),
        (["--suite", "quadratic", "--rows", "nothing"], "--rows: 'nothing' matches none of"),
        (["--rounds", "0"], "--rounds: 0, should be at least 1"),
        (["--threads", "-1"], "--threads: -1, should be at least 1"),
        (["--module", "nothing.py"], "--module: no such file: nothing.py"),
        (["--features", "nothing.npz"], "--features: nothing.npz should be a .npz file"),
    ],
)
def test_bad_input_is_named(options, message, capsys):
    assert main(["compare", "--quick", *options]) == 2
    assert message in capsys.readouterr().err


def test_an_output_that_is_a_file_is_bad_input(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["compare", "--suite", "quadratic", "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["compare", "--list"]) == 2
    assert "pip install 'innerloop[compare]'" in capsys.readouterr().err


def test_features_of_a_file(tmp_path, capsys):
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "features.npz"
    generator = numpy.random.default_rng(0)
    features, targets = generator.normal(size=(2, 6, 5, 4)), generator.normal(size=(2, 2, 5, 4))
    numpy.savez(path, features=features, targets=targets)
    options = ["--features", str(path), "--suite", "conv-file"]
    assert rows_of(run(tmp_path / "out", *options))["ridge (closed form)"]["verdict"] == "exact"
    bad = {
        "(2, C, H, W)": {"features": features[:1], "targets": targets},
        "NaN": {"features": features * numpy.nan, "targets": targets},
        "'targets'": {"features": features},
    }
    for message, arrays in bad.items():
        numpy.savez(path, **arrays)
        assert main(["compare", *options]) == 2
        assert message in capsys.readouterr().err


def test_rows_that_fail_or_are_not_installed_leave_the_others_alone():
    def fail(dtype):
        raise RuntimeError("out of luck")

    suite = quadratic.suite(True)
    absent = replace(suite.rows[1], name="absent", needs="no_such_package")
    broken = replace(suite.rows[1], name="broken", prepare=fail)
    results = run_suite("mixed", suite, [absent, broken, suite.rows[0]], 1).rows
    assert [row.verdict for row in results] == ["not installed", "failed", "approximate"]
    assert results[0].note == "needs no_such_package"
    assert results[1].note == "RuntimeError: out of luck"
    assert results[2].figures.loss_ratio == 1


def test_an_interrupted_run_keeps_what_is_finished(tmp_path, monkeypatch, capsys):
    def interrupted(name, *rest):
        if name == "ridge":
            raise KeyboardInterrupt
        return run_suite(name, *rest)

    monkeypatch.setattr(command, "run_suite", interrupted)
    options = ["--quick", "--rounds", "1", "--out", str(tmp_path)]
    assert main(["compare", "--suite", "quadratic,ridge", *options]) == 130
    document = json.loads((tmp_path / "compare.json").read_text())
    assert [suite["name"] for suite in document["suites"]] == ["quadratic"]
    assert "interrupted" in capsys.readouterr().err


def test_entry_points_add_and_those_that_lack_a_package_are_left_out(monkeypatch):
    assert "conv-backbone" in registry.SUITES

    class Entry:
        name, value = "other", "other.package"

        def __init__(self, error):
            self.error = error

        def load(self):
            raise self.error

    def found(error):
        monkeypatch.setattr(registry, "entry_points", lambda group: [Entry(error)])
        return registry.load_entry_points()

    absent = ModuleNotFoundError("No module named 'x'", name="x")
    assert found(absent) == ["other.package is left out: x is not installed"]
    with pytest.raises(ValueError, match=r"entry point other \(other.package\) fails: OSError: no"):
        found(OSError("no"))


def test_peak_memory_is_that_of_the_tensors_alive():
    def function():
        first = torch.zeros(1000, 500)
        second = first + 1
        del first
        return second @ second.T

    # 2 MB and 2 MB, then 2 MB and the product's 4 MB.
    assert measure.peak_memory(function) == 6_000_000


def test_medians_spreads_and_ratios():
    assert measure.spread([3.0]) == (3.0, 0.0)
    assert measure.spread([1.0, 2.0, 3.0, 4.0, 100.0]) == (3.0, 1.0)
    # The rounds differ, the ratio within each does not.
    assert measure.median_ratio([2.0, 20.0, 6.0], [1.0, 10.0, 3.0]) == 2.0
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    measure.interleaved(functions, 2)
    assert calls == ["a", "b", "a", "b"]


def test_the_program_runs_as_a_module():
    command = [sys.executable, "-m", "innerloop", "compare", "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"quadratic", "few-shot-64-layernorm"} <= set(done.stdout.split())
