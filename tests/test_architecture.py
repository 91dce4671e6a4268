"""Imports run one way: cli -> methods -> (data, scoring, segmenter ...) -> innerloop -> torch."""

import ast
import sys
from pathlib import Path

import innerloop
import innerloop_vos

CORE = Path(innerloop.__file__).parent
VOS = Path(innerloop_vos.__file__).parent
COMMAND = CORE / "compare"
METHODS = ("eosvos", "lwl", "ridge")
FRONT = ("innerloop_vos.cli", "innerloop_vos.commands", "innerloop_vos.methods")


def imported(path):
    """Names of the modules that a file imports, as absolute names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module


def test_the_core_needs_torch_alone():
    allowed = {"torch", "innerloop", *sys.stdlib_module_names}
    for path in CORE.rglob("*.py"):
        if COMMAND not in path.parents:
            assert {name.split(".")[0] for name in imported(path)} <= allowed, path


def test_the_core_does_not_import_its_command_which_does_not_import_the_vos_package():
    for path in CORE.rglob("*.py"):
        names = set(imported(path))
        assert not any(name.startswith("innerloop_vos") for name in names), path
        if COMMAND not in path.parents and path.name not in ("cli.py", "__main__.py"):
            assert not any(name.startswith("innerloop.compare") for name in names), path


def test_methods_do_not_import_one_another_and_nothing_below_imports_the_front():
    for path in VOS.rglob("*.py"):
        module = ".".join(path.relative_to(VOS.parent).with_suffix("").parts)
        if module.startswith(FRONT):
            continue
        for name in imported(path):
            assert not name.startswith(FRONT), (path, name)
            for method in METHODS:
                room = f"innerloop_vos.{method}"
                assert not name.startswith(room) or module.startswith(room), (path, name)


def test_no_file_is_a_room_of_its_own():
    for package in (CORE, VOS):
        for path in package.rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 500, path
