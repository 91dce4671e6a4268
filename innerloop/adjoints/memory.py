"""How much memory a graph keeps for its gradient, and how much there is."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop._torch import saved_tensors
from innerloop.trees import Tree


class GraphSize:
    """Counts what a graph keeps for the gradient, as it grows."""

    def __init__(self) -> None:
        # The nodes themselves, as another one may get the address of one that is gone.
        self._nodes: set[Any] = set()
        self._storages: set[int] = set()

    def grown(self, tree: Tree) -> int:
        """Bytes that the graph of a tree of tensors keeps and that were not counted before."""
        leaves = [leaf for leaf in trees.leaves(tree) if isinstance(leaf, Tensor)]
        waiting, size = [leaf.grad_fn for leaf in leaves], 0
        while waiting:
            node = waiting.pop()
            if node is None or node in self._nodes:
                continue
            self._nodes.add(node)
            waiting.extend(before for before, _ in node.next_functions)
            for tensor in saved_tensors(node):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._storages:
                    self._storages.add(storage.data_ptr())
                    size += storage.nbytes()
        return size


def size_of(tree: Tree) -> int:
    """Bytes of the tensors in a tree."""
    return sum(leaf.nbytes for leaf in trees.leaves(tree) if isinstance(leaf, Tensor))


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device; None where that is not known."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    known = [value for value in (_available(), _left_to_container()) if value is not None]
    return min(known, default=None)


def _available() -> int | None:
    for line in _read("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return 1024 * int(value.split()[0])
    return None


def _left_to_container() -> int | None:
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    return int(limit) - int(used) if limit.isdigit() and used.isdigit() else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""
