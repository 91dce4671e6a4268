"""Gradients of outer losses over batches of tasks."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from innerloop import trees
from innerloop.adjoints.base import check_count
from innerloop.threads import thread_map
from innerloop.trees import Tree

TaskLoss = Callable[[Tree, Any], Tensor]
Mode: TypeAlias = Literal["loop", "threads", "vmap", "compile"]


class TaskGradients(NamedTuple):
    """The outer losses of a batch of tasks and the gradient of their mean."""

    losses: Tensor
    """One a task, without gradient."""
    gradients: Tree
    """Structured like the meta-parameters."""


def task_gradients(
    task_loss: TaskLoss,
    meta_parameters: Tree,
    tasks: Any,
    *,
    mode: Mode = "loop",
    chunk_size: int | None = None,
    seed: int | None = None,
    randomness: Literal["different", "same"] = "different",
) -> TaskGradients:
    """The gradient of the mean outer loss over a batch of tasks.

    Every mode differentiates the tasks one by one and averages: the gradient of a loss that was
    averaged under vmap first is wrong through some normalisation layers.

    Args:
        task_loss: maps the meta-parameters and a task to a scalar outer loss; it adapts inside.
        meta_parameters: a tree of tensors.
        tasks: a list of tasks, or all tasks stacked: a tensor, or a dict or tuple of tensors, whose
            first axis counts tasks.
        mode: "loop" (the default) takes one task after the other, at the memory of one; "threads"
            as many side by side as `torch.get_num_threads()`, each on one core, which is faster for
            small nets on a processor: `task_loss` must not change what tasks share (`Adapted`
            modules do not; a module under `torch.func.functional_call` does); "vmap" computes many
            tiny ones at once; "compile" loops over one task that is compiled whole, which takes
            minutes for deep nets and many steps: `Adapted.adapt(..., compile=True)` compiles a step
            instead.
        chunk_size: tasks computed at once under "vmap". Default: all.
        seed: makes the random numbers reproducible: task i draws from `seed + i`, the same ones
            under "loop" and "compile"; under "vmap" a chunk draws at once, so other ones; under
            "threads" there is none, as threads share one generator. Default: the global generator
            as it is.
        randomness: "same" lets all tasks draw the same numbers, in every mode. Default "different".

    Returns:
        The losses and the gradient.

    Raises:
        ValueError: the tasks do not fit together, or an option is unknown.
    """
    if randomness not in ("different", "same"):
        raise ValueError(f"randomness: {randomness!r}, should be 'different' or 'same'")
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)
    if mode == "threads" and (seed is not None or randomness == "same"):
        name, value = ("seed", seed) if seed is not None else ("randomness", randomness)
        raise ValueError(f"{name}: {value!r}, should be left out: threads share one generator")
    count = _count(tasks)
    meta_parameters = trees.detach(meta_parameters)
    if mode == "vmap":
        tasks = _stacked(tasks)
        size = chunk_size or count
        groups = [
            (trees.tree_map(lambda leaf, at=at: leaf[at : at + size], tasks), at)
            for at in range(0, count, size)
        ]
        differentiate = _vmapped(task_loss, randomness)
    elif mode in ("loop", "threads", "compile"):
        groups = [(_task(tasks, i), i) for i in range(count)]
        differentiate = _compiled(task_loss) if mode == "compile" else _eager(task_loss)
    else:
        raise ValueError(f"mode: {mode!r}, should be 'loop', 'threads', 'vmap' or 'compile'")

    def of_group(group: tuple[Any, int]) -> tuple[Tree, Tensor]:
        with _seeded(seed, 0 if randomness == "same" else group[1]):
            return differentiate(meta_parameters, group[0])

    losses, total = [], trees.zeros_like(meta_parameters)
    for gradients, loss in (thread_map if mode == "threads" else map)(of_group, groups):
        total = trees.add(total, trees.detach(gradients))
        del gradients  # makes room for the next ones
        losses.append(loss.detach().reshape(-1))
    return TaskGradients(torch.cat(losses), trees.tree_map(lambda leaf: leaf / count, total))


def meta_train(
    task_loss: TaskLoss,
    meta_parameters: Tree,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    *,
    mode: Mode = "loop",
    chunk_size: int | None = None,
    seed: int | None = None,
    after_step: Callable[[], None] | None = None,
) -> list[float]:
    """Train meta-parameters: one outer step for every batch of tasks.

    Args:
        task_loss, mode, chunk_size: as of `task_gradients`.
        meta_parameters: a tree of leaf tensors, which `optimizer` changes in place.
        batches: yields batches of tasks.
        optimizer: the outer optimizer of the meta-parameters.
        seed: makes the random numbers in `task_loss` reproducible. Default: the global generator.
        after_step: called after every outer step, for example `rates.clamp_`. Default: nothing.

    Returns:
        The mean outer loss of every batch.
    """
    history, taken = [], 0
    for tasks in batches:
        optimizer.zero_grad()  # the last gradient's memory is free for this one
        losses, gradients = task_gradients(
            task_loss,
            meta_parameters,
            tasks,
            mode=mode,
            chunk_size=chunk_size,
            seed=None if seed is None else seed + taken,
        )
        taken += len(losses)
        pairs = zip(trees.leaves(meta_parameters), trees.leaves(gradients), strict=True)
        for parameter, gradient in pairs:
            parameter.grad = gradient
        optimizer.step()
        if after_step is not None:
            after_step()
        history.append(losses.mean().item())
    return history


def _count(tasks: Any) -> int:
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


def _task(tasks: Any, index: int) -> Any:
    if isinstance(tasks, list):
        return tasks[index]
    return trees.tree_map(lambda leaf: leaf[index], tasks)


def _stacked(tasks: Any) -> Any:
    if not isinstance(tasks, list):
        return tasks
    try:
        return trees.tree_map(lambda *leaves: torch.stack(leaves), *tasks)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"tasks: mode 'vmap' needs tasks of one shape: {error}") from error


def _vmapped(task_loss: TaskLoss, randomness: str) -> Callable[[Tree, Any], tuple[Tree, Tensor]]:
    each = torch.func.vmap(torch.func.grad_and_value(task_loss), randomness=randomness)

    def differentiate(meta_parameters: Tree, group: Any) -> tuple[Tree, Tensor]:
        # Every task has its (expanded) copy: the recurrent layers of torch write in place what is
        # batched only if their parameters are.
        count = trees.leaves(group)[0].shape[0]
        copies = trees.tree_map(lambda leaf: leaf.expand(count, *leaf.shape), meta_parameters)
        gradients, losses = each(copies, group)
        return trees.tree_map(lambda leaf: leaf.sum(0), gradients), losses

    return differentiate


def _eager(task_loss: TaskLoss) -> Callable[[Tree, Any], tuple[Tree, Tensor]]:
    def differentiate(meta_parameters: Tree, task: Any) -> tuple[Tree, Tensor]:
        with torch.enable_grad():
            fresh = trees.tree_map(lambda leaf: leaf.detach().requires_grad_(), meta_parameters)
            leaves, spec = trees.flatten(fresh)
            loss = task_loss(fresh, task)
            if not loss.requires_grad:
                return trees.zeros_like(meta_parameters), loss
            gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
        return trees.unflatten(list(gradients), spec), loss

    return differentiate


def _compiled(task_loss: TaskLoss) -> Callable[[Tree, Any], tuple[Tree, Tensor]]:
    # Random numbers as in eager code, so that seeds mean the same.
    return torch.compile(torch.func.grad_and_value(task_loss), options={"fallback_random": True})


@contextmanager
def _seeded(seed: int | None, index: int) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed + index)
        yield
