"""The pages of the site: their code runs, their commands parse, every public name has its entry."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import torch

import innerloop as il
from innerloop.compare import registry
from innerloop_vos.commands.parser import parse

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT / "docs")): path.read_text()
    for path in sorted((ROOT / "docs").rglob("*.md"))
}
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_PEERS = re.compile(r"^```(?:py|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = {"scaling.md"}  # a program for torchrun: test_scaling.py
COMMAND = re.compile(r"^innerloop-vos (.*)$", re.MULTILINE)


def blocks(kind, page):
    return list(kind.finditer(PAGES[page]))


def run(kind, page):
    torch.manual_seed(0)
    names = {"__name__": "page"}
    for block in blocks(kind, page):
        above = "\n" * PAGES[page].count("\n", 0, block.start(1))
        exec(compile(above + block[1], ROOT / "docs" / page, "exec"), names)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(CODE, page) and page not in ELSEWHERE]
)
def test_the_code_of_a_page_runs_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "SOLVERS", {})  # a page adds one
    run(CODE, page)


def test_the_code_of_other_libraries_runs():
    pytest.importorskip("torchopt")
    run(WITH_PEERS, "migrating.md")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(COMMAND, page)])
def test_the_commands_of_a_page_parse(page):
    for line in blocks(COMMAND, page):
        assert callable(parse(shlex.split(line[1], comments=True)).run)


def test_the_figures_on_choosing_are_those_measured():
    def rows(text):
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
        return {row[0]: row[1:] for row in cells if row and row[0].startswith("`")}

    measured = rows((ROOT / "benchmarks/core/README.md").read_text())
    listed = {name: row for name, row in rows(PAGES["choosing.md"]).items() if len(row) == 6}
    assert len(listed) == 6
    for name, row in listed.items():  # leaves out cosines, and logistic regression
        assert row == [measured[name][i] for i in (0, 2, 3, 8, 10, 11)], name


def hooks():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_on_a_page_and_no_other():
    pages = hooks().reference()
    documented = [name for names in pages.values() for name in names]
    assert len(documented) == len(set(documented))
    public = {f"innerloop.{name}" for name in il.__all__}
    in_a_module = {"innerloop.Tree"}  # of `innerloop.trees`
    assert public - in_a_module == set(documented) - pages.keys()
    assert {"innerloop.trees", "innerloop.compare", "innerloop_vos.segmenter"} <= pages.keys()
