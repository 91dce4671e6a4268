"""Does the suite notice small mistakes? Changes one place of the code at a time and runs tests.

Draws mutants of the most important files by a seed: another comparison, the other sign, another
number, a condition turned round, a statement left out. Each is tried in a copy of the checkout with
the tests of its file; killed means that a test failed. Prints a line for each and the share.

    python -m benchmarks.core.mutants [--count 40] [--seed 0] [--only solving.py]
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

FILES: dict[str, list[str]] = {
    "innerloop/solving.py": [
        "solve",
        "inner_losses",
        "solvers",
        "robust",
        "problems",
        "solver_state",
        "pairs",
    ],
    "innerloop/_autodiff.py": ["inner_losses", "pairs", "transforms"],
    "innerloop/adjoints/unrolled.py": ["pairs", "checkpoints_of_steps", "solver_state"],
    "innerloop/adjoints/implicit.py": ["solve", "linear_systems", "pairs", "checkpoints_of_steps"],
    "innerloop/adjoints/checkpoint.py": ["checkpoints_of_steps", "pairs", "collect"],
    "innerloop/solvers/steepest.py": ["solve", "coordinates", "pairs", "solver_state", "solvers"],
    "innerloop/solvers/conjugate.py": [
        "solve",
        "pairs",
        "solvers",
        "linear_systems",
        "convergence",
    ],
    "innerloop/solvers/adaptive/averages.py": ["solvers", "pairs", "inner_losses"],
    "innerloop/problems/linear.py": ["solve", "problems", "pairs", "inner_losses", "coordinates"],
    "innerloop/modules/adapted.py": [
        "inner_losses",
        "compiled",
        "modules",
        "module_kinds",
        "changed_modules",
    ],
    "innerloop/tasks/gradients.py": ["tasks"],
    "innerloop_vos/lwl/segmenter.py": ["lwl_segmenter", "lwl_released"],
}
"""The files, each with its tests."""

_COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult}


class Mutant(NamedTuple):
    """A change: of which node, and how."""

    line: int
    what: str
    index: int
    kind: str


def _places(tree: ast.AST) -> Iterator[tuple[int, ast.AST, str]]:
    """What can be changed: the number of a node in the walk, the node and how."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert):
            skipped |= {id(part) for part in ast.walk(node)}  # messages
        if isinstance(node, ast.arguments):
            skipped |= {id(p) for d in node.defaults + node.kw_defaults if d for p in ast.walk(d)}
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
            skipped |= {id(part) for part in ast.walk(node.annotation)}
        if isinstance(node, ast.FunctionDef) and node.returns:
            skipped |= {id(part) for part in ast.walk(node.returns)}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Tuple):
            skipped |= {id(part) for part in ast.walk(node)}
    for index, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
            yield index, node, "comparison"
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            yield index, node, "operator"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            yield index, node, "sign"
        elif isinstance(node, ast.BoolOp):
            yield index, node, "and/or"
        elif isinstance(node, ast.If | ast.IfExp):
            yield index, node, "condition"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield index, node, "left out"


def _change(tree: ast.AST, mutant: Mutant) -> None:
    node = list(ast.walk(tree))[mutant.index]
    if isinstance(node, ast.Compare):
        node.ops[0] = _COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp):
        node.op = _OPERATORS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Expr):
        node.value = ast.Constant(None)


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        Mutant(node.lineno, ast.unparse(node).splitlines()[0][:60], index, kind)  # type: ignore[attr-defined]
        for index, node, kind in _places(tree)
    ]


def killed(name: str, mutant: Mutant, copy: Path) -> bool:
    """Whether a test of the file fails with the change."""
    path = copy / name
    original = path.read_text(encoding="utf-8")
    tree = ast.parse(original)
    _change(tree, mutant)
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    tests = [f"tests/test_{test}.py" for test in FILES[name]]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *tests]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=600)
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(original, encoding="utf-8")
    return done.returncode != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files whose name contains this (default: all)")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    names = [name for name in FILES if args.only in name]
    pools = {name: draw.sample(found := mutants(ROOT / name), len(found)) for name in names}
    chosen = [(name, pools[name].pop()) for _ in range(args.count) for name in names if pools[name]]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        ignored = shutil.ignore_patterns(".venv", ".git", "__pycache__", "runs", "results")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for name, mutant in chosen[: args.count]:
            dead = killed(name, mutant, copy)
            survivors += not dead
            word = "killed  " if dead else "SURVIVES"
            print(f"{word} {name}:{mutant.line} {mutant.kind}: {mutant.what}", flush=True)
    count = min(args.count, len(chosen))
    print(f"{count - survivors} of {count} killed")


if __name__ == "__main__":
    main()
