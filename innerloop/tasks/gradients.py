"""Gradients of outer losses over batches of tasks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from innerloop import trees
from innerloop._autodiff import outside_inference_mode
from innerloop._threads import thread_map
from innerloop.problems.checks import check_whole
from innerloop.tasks.batches import count_tasks, one_task, stacked
from innerloop.tasks.differentiation import (
    Differentiate,
    TaskLoss,
    compiled,
    eager,
    of_tensors,
    vmapped,
)
from innerloop.tasks.meta_parameters import meta_tensors
from innerloop.tasks.processes import Processes, Sums
from innerloop.trees import Tree

Mode: TypeAlias = Literal["loop", "threads", "vmap", "compile"]


class TaskGradients(NamedTuple):
    """The outer losses of a batch of tasks and the gradient of their mean."""

    losses: Tensor
    """One per task, without gradient."""
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
    group: ProcessGroup | None = None,
) -> TaskGradients:
    """The gradient of the mean outer loss over a batch of tasks.

    Every mode differentiates the tasks one by one and averages: the gradient of a loss that was
    averaged under vmap first is wrong through some normalisation layers.

    Args:
        task_loss: maps the meta-parameters and a task to a scalar outer loss; it adapts inside. It
            is given the structure of `meta_parameters`: tensors that need gradients in place of the
            tensors, and the modules themselves, as in `net, rates = meta`. Under "vmap" and
            "compile" the modules have the differentiated tensors for parameters during the call, so
            take their parameters inside it, as `adapt(net, ...)` does.
        meta_parameters: a tree of tensors and modules. Of a module, the parameters that require a
            gradient are meta-parameters.
        tasks: a list of tasks, or all tasks stacked: a tensor, or a dict or tuple of tensors, whose
            first axis counts tasks.
        mode: "loop" (the default) takes one task after the other, at the memory of one; "threads"
            takes `torch.get_num_threads()` tasks in parallel, each on one core, which is faster for
            small nets on a CPU: `task_loss` must not change anything that tasks share (`Adapted`
            modules do not; a module under `torch.func.functional_call` does); "vmap" computes many
            tiny tasks at once; "compile" loops over one task that is compiled whole, which takes
            minutes for deep nets and many steps: `Adapted.adapt(..., compile=True)` compiles only a
            step.
        chunk_size: tasks computed at once under "vmap". Default: all.
        seed: makes the random numbers reproducible: task i draws from `seed + i`, the same numbers
            under "loop" and "compile"; under "vmap" a whole chunk draws at once, so they differ;
            not allowed under "threads", which share one generator. Default: the global generator as
            it is.
        randomness: "same" lets all tasks draw the same numbers, in every mode. Default "different".
        group: processes that share the tasks, such as `torch.distributed.group.WORLD` under
            torchrun. Each is given all tasks and the same meta-parameters, computes its share, and
            returns the losses and the gradient of all, up to rounding as one process would. What
            tasks change in place, such as the statistics of BatchNorm, is each process's own.
            Default: this process alone.

    Returns:
        The losses and the gradient.

    Raises:
        TypeError: `task_loss` does not return a tensor, or a meta-parameter is not one.
        ValueError: the tasks do not fit together, an option is unknown, or the outer loss depends
            on no meta-parameter.
        FloatingPointError: an outer loss or the gradient is NaN or infinite.
        RuntimeError: another process failed, or the processes are not connected.
    """
    if randomness not in ("different", "same"):
        raise ValueError(f"randomness: {randomness!r}, should be 'different' or 'same'")
    if mode not in ("loop", "threads", "vmap", "compile"):
        raise ValueError(f"mode: {mode!r}, should be 'loop', 'threads', 'vmap' or 'compile'")
    if chunk_size is not None:
        check_whole("chunk_size", chunk_size, 1)
    if mode == "threads" and (seed is not None or randomness == "same"):
        name, value = ("seed", seed) if seed is not None else ("randomness", randomness)
        raise ValueError(f"{name}: {value!r}, should be left out: threads share one generator")
    count, processes = count_tasks(tasks), Processes(group)
    given, meta_parameters = meta_parameters, trees.detach(meta_tensors(meta_parameters))
    differentiate: Differentiate
    if mode == "vmap":
        tasks = stacked(tasks)
        differentiate = vmapped(of_tensors(task_loss, given), randomness)
    elif mode == "compile":
        differentiate = compiled(of_tensors(task_loss, given))
    else:
        differentiate = eager(task_loss, given)

    def of_chunk(chunk: range) -> tuple[Tree, Tensor]:
        part = slice(chunk.start, chunk.stop, chunk.step) if mode == "vmap" else chunk[0]
        with _seeded(seed, 0 if randomness == "same" else chunk[0]):
            return differentiate(meta_parameters, one_task(tasks, part))

    def of_own() -> Sums:
        own = processes.own(count)
        size = (chunk_size or count) if mode == "vmap" else 1
        chunks = [own[at : at + size] for at in range(0, len(own), size)]
        losses, total = [], trees.zeros_like(meta_parameters)
        for gradients, loss in (thread_map if mode == "threads" else map)(of_chunk, chunks):
            total = trees.add(total, trees.detach(gradients))
            del gradients  # makes room for the next ones
            losses.append(loss.detach().reshape(-1))
        return Sums(losses, total)

    with outside_inference_mode():
        losses, total = processes.total(of_own, count, meta_parameters)
        if mode in ("vmap", "compile") and not any(bool(g.any()) for g in trees.leaves(total)):
            # Under transforms it is unknown whether the loss depends on anything; in eager code it
            # is known.
            eager(task_loss, given)(meta_parameters, one_task(tasks, 0))
    found = TaskGradients(losses, trees.tree_map(lambda leaf: leaf / count, total))
    _check_finite(found)
    return found


def _check_finite(found: TaskGradients) -> None:
    bad = (~found.losses.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise FloatingPointError(
            f"task_loss: the outer loss of {len(bad)} of {len(found.losses)} tasks is not finite, "
            f"first of task {bad[0]}, where it is {found.losses[bad[0]].item()}"
        )
    leaves = trees.named_leaves(found.gradients)
    names = [name for name, leaf in leaves if not bool(leaf.isfinite().all())]
    if names:
        raise FloatingPointError(
            f"task_loss: its gradient is not finite for {len(names)} meta-parameters, such as "
            f"{names[:4]}; look for what has no derivative, such as the root or the norm of zero, "
            "or leaves the range of the dtype; torch.autograd.set_detect_anomaly(True) says where"
        )


@contextmanager
def _seeded(seed: int | None, index: int) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed + index)
        yield
