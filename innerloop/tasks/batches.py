"""Batches of tasks: a list of tasks, or all tasks stacked."""

from typing import Any

import torch

from innerloop import trees


def count_tasks(tasks: Any) -> int:
    """The number of tasks.

    Raises:
        ValueError: there are none, or the tensors disagree.
    """
    if isinstance(tasks, list):
        count = len(tasks)
    else:
        counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in trees.leaves(tasks)}
        if len(counts) != 1:
            raise ValueError(
                f"tasks: first axes of lengths {sorted(counts)}, should be one length, the number "
                "of tasks; or a list of tasks"
            )
        (count,) = counts
    if count == 0:
        raise ValueError("tasks: none, should be at least one")
    return count


def one_task(tasks: Any, index: int | slice) -> Any:
    """The task at an index, or several of those that are stacked."""
    if isinstance(tasks, list):
        return tasks[index]
    return trees.tree_map(lambda leaf: leaf[index], tasks)


def stacked(tasks: Any) -> Any:
    """All tasks stacked.

    Raises:
        ValueError: they have different shapes.
    """
    if not isinstance(tasks, list):
        return tasks
    try:
        return trees.tree_map(lambda *leaves: torch.stack(leaves), *tasks)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"tasks: mode 'vmap' needs tasks of one shape: {error}") from error
