"""Processes that share a batch of tasks: one flat message a step."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from innerloop import trees
from innerloop.problems.checks import named
from innerloop.trees import Tree


class Sums(NamedTuple):
    """The losses of the tasks of a process, in order, and the sum of their gradients."""

    losses: list[Tensor]
    gradients: Tree


class Processes:
    """The processes among which tasks are shared out, task i to process i modulo their number.

    Args:
        group: of `torch.distributed`. None: this process alone.

    Raises:
        TypeError: it is no such group.
        RuntimeError: the processes are not connected, or this one is not in the group.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group, self.rank, self.count = group, 0, 1
        if group is None:
            return
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError(
                "group: the processes are not connected; call torch.distributed.init_process_group "
                "before, in a program that torchrun starts"
            )
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(
                f"group: {named(group)}, should be a ProcessGroup such as "
                "torch.distributed.group.WORLD"
            )
        self.rank, self.count = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise RuntimeError("group: this process is not in it")

    def own(self, tasks: int) -> range:
        """Indices of the tasks of this process."""
        return range(self.rank, tasks, self.count)

    def total(self, compute: Callable[[], Sums], tasks: int, like: Tree) -> tuple[Tensor, Tree]:
        """Compute this process's sums, and add those of all.

        If one fails, all do: that one with its error, which the others name.

        Args:
            compute: computes them for the tasks of `own`.
            tasks: number of tasks in all.
            like: the meta-parameters.

        Returns:
            The losses of all tasks and the sum of their gradients.

        Raises:
            RuntimeError: another process failed.
        """
        if self.group is None:
            found = compute()
            return torch.cat(found.losses), found.gradients
        failure: Exception | None = None
        try:
            found = compute()
        except Exception as error:  # raised again once the others know
            failure, found = error, Sums([], trees.zeros_like(like))
        leaves, spec = trees.flatten(found.gradients)
        failed = leaves[0].new_zeros(self.count)
        failed[self.rank] = failure is not None
        losses = leaves[0].new_zeros(tasks)
        if found.losses:
            losses[self.rank :: self.count] = torch.cat(found.losses).to(losses)
        failed, losses, *leaves = self._add([failed, losses, *leaves])
        if failure is not None:
            raise failure
        if failed.any():
            others = ", ".join(str(rank) for rank in failed.nonzero().flatten().tolist())
            raise RuntimeError(f"task_loss: failed in process {others}, whose error says why")
        return losses, trees.unflatten(leaves, spec)

    def same(self, tensors: list[Tensor]) -> None:
        """Give tensors, in place, the values that they have in the first process."""
        if self.group is None:
            return
        first = tensors if self.rank == 0 else [torch.zeros_like(tensor) for tensor in tensors]
        with torch.no_grad():
            for tensor, value in zip(tensors, self._add(first), strict=True):
                tensor.copy_(value)

    def _add(self, tensors: list[Tensor]) -> list[Tensor]:
        """Sums over the processes, in one message: many small ones would mostly wait."""
        device = tensors[-1].device
        wide = torch.float32
        for tensor in tensors:
            wide = torch.promote_types(wide, tensor.dtype)
        message = torch.cat([t.detach().to(device, wide).flatten() for t in tensors])
        dist.all_reduce(message, group=self.group)
        parts = message.split([tensor.numel() for tensor in tensors])  # type: ignore[no-untyped-call]
        return [p.view(t.shape).to(t) for p, t in zip(parts, tensors, strict=True)]
