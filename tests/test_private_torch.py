"""What a new version of torch has changed of its private parts, a line for each."""

import ast
from pathlib import Path

import pytest
import torch

import innerloop
from innerloop import _torch

CORE = Path(innerloop.__file__).parent
FILE = Path(_torch.__file__)


def private(path):
    """The private names of torch that a file uses, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    return {
        name
        for name in found
        if name.startswith("torch.")
        and any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    }


def test_private_names_are_in_one_file():
    names = {path: private(path) for path in CORE.rglob("*.py") if path != FILE}
    assert not {str(path): found for path, found in names.items() if found}


@pytest.mark.parametrize("name", sorted(private(FILE)))
def test_torch_still_has(name):
    value = torch
    for part in name.split(".")[1:]:
        assert hasattr(value, part), f"torch {torch.__version__} has no {name}"
        value = getattr(value, part)


def test_they_say_what_they_did():
    x = torch.ones(2, requires_grad=True)
    assert not _torch.inside_transform()
    assert not _torch.is_wrapped(x)
    seen = []

    def look(value):
        seen.append((_torch.inside_transform(), _torch.is_wrapped(value)))
        return value.sum()

    torch.func.grad(look)(x)
    assert seen == [(True, True)]
    assert _torch.current_backward_pass() == -1
    x.sum().register_hook(lambda g: None)
    passes = []
    y = x * 2
    y.register_hook(lambda g: passes.append(_torch.current_backward_pass()))
    for _ in range(2):
        torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert passes[0] >= 0
    assert passes[0] != passes[1]
