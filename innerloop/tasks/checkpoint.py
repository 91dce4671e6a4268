"""Checkpoints of the training of meta-parameters."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist

from innerloop import trees
from innerloop._states import read_state, write_state
from innerloop.errors import InputError
from innerloop.tasks.meta_parameters import meta_tensors
from innerloop.tasks.processes import Processes
from innerloop.trees import Tree


class Progress(NamedTuple):
    """How far a training has come."""

    taken: int
    """Tasks in all batches that are done."""
    history: list[float]
    """The mean outer loss of every batch."""


class Checkpoint:
    """All that the next step depends on, in a file that the first process reads and writes.

    Args:
        path: the file. None: there is none.
        meta_parameters: tensors and modules; of these, the buffers are kept too.
        optimizer: that changes them.
        processes: that share the training.
    """

    def __init__(
        self,
        path: str | Path | None,
        meta_parameters: Tree,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.optimizer, self.processes = optimizer, processes
        self.tensors = dict(trees.named_leaves(meta_tensors(meta_parameters)))
        nodes: list[tuple[str, Any]] = list(trees.named_leaves(meta_parameters))
        modules = [(name, node) for name, node in nodes if isinstance(node, nn.Module)]
        self.buffers = {
            f"{path}.{name}": buffer
            for path, module in modules
            for name, buffer in module.named_buffers()
        }

    def save(self, progress: Progress) -> None:
        """Write the file, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        if self.path is None or self.processes.rank:
            return
        state = {
            **progress._asdict(),
            "tensors": {name: tensor.detach() for name, tensor in self.tensors.items()},
            "buffers": self.buffers,
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
        }
        write_state(self.path, state)

    def load(self) -> tuple[Progress, Tensor | None]:
        """Go on from the file, if it is there.

        Returns:
            How far the training has come, and the state of torch's generator; None at the start.

        Raises:
            InputError: the file cannot be read, or is of another training.
        """
        state = self._read()
        if state is None:
            return Progress(0, []), None
        try:
            self._check(state)
            self.optimizer.load_state_dict(state["optimizer"])
            with torch.no_grad():
                for ours, theirs in (
                    (self.tensors, state["tensors"]),
                    (self.buffers, state["buffers"]),
                ):
                    for name, tensor in ours.items():
                        tensor.copy_(theirs[name])
            progress = Progress(int(state["taken"]), [float(loss) for loss in state["history"]])
            return progress, state["generator"].clone()
        except InputError:
            raise
        except Exception as error:  # parts of a malformed state raise almost anything
            reason = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"checkpoint: {self.path} is not of this training: {type(error).__name__}: {reason}"
            ) from error

    def _read(self) -> dict[str, Any] | None:
        """What the first process finds, in all processes."""
        found: list[Any] = [None]
        if self.processes.rank == 0 and self.path is not None and self.path.exists():
            found = [read_state(self.path)]
        if self.processes.group is not None:
            dist.broadcast_object_list(found, group=self.processes.group, group_src=0)
        state: dict[str, Any] | None = found[0]
        return state

    def _check(self, state: dict[str, Any]) -> None:
        for kind, ours in (("tensors", self.tensors), ("buffers", self.buffers)):
            shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
            theirs = {name: tuple(tensor.shape) for name, tensor in state[kind].items()}
            if shapes != theirs:
                names = sorted(
                    name
                    for name in shapes.keys() | theirs.keys()
                    if shapes.get(name) != theirs.get(name)
                )
                raise InputError(
                    f"checkpoint: {self.path} is of another training: {names[0]} has shape "
                    f"{theirs.get(names[0], 'none')}, should have {shapes.get(names[0], 'none')}"
                )
