"""Imports run one way: cli -> methods -> (data, scoring, segmenter ...) -> innerloop -> torch."""

import ast
import sys
from pathlib import Path

import pytest

import innerloop
import innerloop_vos

CORE = Path(innerloop.__file__).parent
VOS = Path(innerloop_vos.__file__).parent
COMMAND = CORE / "compare"
METHODS = ("agame", "cosnet", "eosvos", "lwl", "lwl_lite", "ridge", "rvos")
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
                room = f"innerloop_vos.{method}."
                assert not f"{name}.".startswith(room) or module.startswith(room), (path, name)


def modules_of(package):
    root = Path(package.__file__).parent
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_between(modules):
    """What each module imports of the others, wherever in the file."""

    def targets(path):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    part = f"{node.module}.{alias.name}"
                    yield part if part in modules else node.module

    return {name: set(targets(path)) & modules.keys() - {name} for name, path in modules.items()}


def circles(graph):
    """Groups of modules that import one another."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in graph[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def rooms_between(graph):
    """The same for rooms: packages, and modules that lie in none."""

    def room(name):
        return ".".join(name.split(".")[:2])

    rooms = {room(name): set() for name in graph}
    for name, targets in graph.items():
        rooms[room(name)] |= {room(target) for target in targets} - {room(name)}
    return rooms


@pytest.mark.parametrize("package", [innerloop, innerloop_vos])
def test_no_rooms_import_one_another_in_a_circle(package):
    graph = imports_between(modules_of(package))
    assert circles(rooms_between(graph)) == []


@pytest.mark.parametrize("package", [innerloop, innerloop_vos])
def test_no_modules_import_one_another_in_a_circle(package):
    assert circles(imports_between(modules_of(package))) == []


def test_the_ground_floor_holds_the_interface_and_the_rooms():
    loose = {path.name for path in VOS.glob("*.py")}
    # masks and video: what users import most, under short names.
    assert loose == {
        *("__init__.py", "cli.py", "masks.py", "video.py"),
        *("segmenter.py", "unsupervised.py"),
    }


def test_no_file_is_a_room_of_its_own():
    for package in (CORE, VOS):
        for path in package.rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 500, path
