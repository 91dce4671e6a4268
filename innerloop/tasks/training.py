"""Training of meta-parameters, one outer step for every batch of tasks."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.distributed import ProcessGroup

from innerloop import trees
from innerloop.errors import InputError
from innerloop.problems.checks import check_whole
from innerloop.tasks.checkpoint import Checkpoint
from innerloop.tasks.differentiation import TaskLoss
from innerloop.tasks.gradients import Mode, task_gradients
from innerloop.tasks.meta_parameters import check_optimizer, meta_tensors
from innerloop.tasks.processes import Processes
from innerloop.trees import Tree


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
    group: ProcessGroup | None = None,
    checkpoint: str | Path | None = None,
    every: int = 1,
) -> list[float]:
    """Train meta-parameters: one outer step for every batch of tasks.

    Args:
        task_loss, mode, chunk_size: see `task_gradients`.
        meta_parameters: a tree of leaf tensors and modules, such as `[net, rates]`, whose
            parameters `optimizer` changes in place; it must hold them all, and no others.
        batches: yields batches of tasks.
        optimizer: the outer optimizer of the meta-parameters.
        seed: makes the random numbers in `task_loss` reproducible. Default: the global generator.
        after_step: called after every outer step, for example `rates.clamp_`. Default: nothing.
        group: processes that share the tasks of every batch, see `task_gradients`. All start from
            the meta-parameters of the first one. Default: this process alone.
        checkpoint: file that is written after every `every` steps and the last, whole or not at
            all. If it is there at the start, the training goes on from it: `batches` should yield
            the same batches again, of which those that were done are passed over. Another number of
            processes may go on. With `torchrun --max-restarts N` a process that dies costs the
            running step alone; torch 2.14 then needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its
            environment. Default: none.
        every: steps from one checkpoint to the next. Default 1.

    Returns:
        The mean outer loss of every batch.

    Raises:
        TypeError, ValueError: see `task_gradients`, or `optimizer` and `meta_parameters` do not
            hold the same tensors.
        FloatingPointError: see `task_gradients`; the meta-parameters are as before that batch.
        RuntimeError: see `task_gradients`.
        InputError: the checkpoint cannot be read or written, or is of another training.
    """
    check_whole("every", every, 1)
    tensors, processes = meta_tensors(meta_parameters), Processes(group)
    check_optimizer(optimizer, tensors)
    processes.same(trees.leaves(tensors))
    kept = Checkpoint(checkpoint, meta_parameters, optimizer, processes)
    progress, generator = kept.load()
    rest = iter(batches)
    before = sum(1 for _ in islice(rest, len(progress.history)))
    if before < len(progress.history):
        raise InputError(
            f"checkpoint: {checkpoint} has done {len(progress.history)} batches, of which `batches`"
            f" yields {before}; it should yield the same ones again"
        )
    if generator is not None:
        torch.set_rng_state(generator)
    for tasks in rest:
        optimizer.zero_grad()  # the last gradient's memory is free for this one
        losses, gradients = task_gradients(
            task_loss,
            meta_parameters,
            tasks,
            mode=mode,
            chunk_size=chunk_size,
            seed=None if seed is None else seed + progress.taken,
            group=group,
        )
        pairs = zip(trees.leaves(tensors), trees.leaves(gradients), strict=True)
        for parameter, gradient in pairs:
            parameter.grad = gradient
        optimizer.step()
        if after_step is not None:
            after_step()
        progress.history.append(losses.mean().item())
        progress = progress._replace(taken=progress.taken + len(losses))
        if len(progress.history) % every == 0:
            kept.save(progress)
    if len(progress.history) % every:
        kept.save(progress)
    return progress.history
