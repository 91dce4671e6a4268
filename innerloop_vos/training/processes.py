"""Several processes: `torchrun` starts them, Accelerate connects them.

In a training each draws its own batch, and their gradients are averaged. A single one does not need
Accelerate: it counts as the first of one.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor

from innerloop.errors import InputError

# The others wait for the first process, the only one that measures; the limit allows hours.
_PATIENCE = timedelta(days=1)


@contextmanager
def connected(device: torch.device) -> Iterator[torch.device]:
    """Connect the processes that `torchrun` started, if it did, while the block runs.

    In such a block they stay connected until its end.

    Args:
        device: where to compute; `cuda` gives every process of a machine its own GPU.

    Yields:
        The device of this process.

    Raises:
        InputError: there are several processes, but Accelerate is not installed, or `device` is
            one GPU for all of them.
    """
    if started() == 1:
        yield device
        return
    if device != torch.device(device.type):
        raise InputError(
            f"device: {device} is one for {started()} processes; give {device.type}, and each has "
            "its own"
        )
    try:
        from accelerate import PartialState
    except ImportError:
        raise InputError(
            f"torchrun started {started()} processes, and Accelerate, which connects them, is not "
            "installed: pip install innerloop[train]"
        ) from None
    inside = torch.distributed.is_initialized()
    state = PartialState(cpu=device.type == "cpu", timeout=_PATIENCE)
    yield device if device.type == "cpu" else state.device
    # Not after an error: the others may never get here, and torchrun ends them.
    if not inside:
        state.destroy_process_group()


def started() -> int:
    """Return the number of processes that `torchrun` started; without it, 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count() -> int:
    """Return the number of connected processes."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process; the first, 0, measures and writes."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace gradients by their means over the processes, as DistributedDataParallel does.

    DistributedDataParallel hooks into the forward pass of one module; inner loops call many
    modules, several times, and differentiate through gradients.

    Args:
        parameters: all that a step changes, in the same order in every process, of one dtype. One
            without a gradient counts as zero where another process has one for it.
    """
    if count() == 1:
        return
    parameters = list(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    present = gradients[0].new_tensor([p.grad is not None for p in parameters])
    # In one message, as many small ones would mostly wait.
    means = _mean(torch.cat([present, *(gradient.flatten() for gradient in gradients)]))
    lengths = [len(parameters), *(gradient.numel() for gradient in gradients)]
    anywhere, *parts = means.split(lengths)  # type: ignore[no-untyped-call]
    for parameter, gradient, part, seen in zip(
        parameters, gradients, parts, anywhere.tolist(), strict=True
    ):
        if seen:
            parameter.grad = gradient.copy_(part.view_as(gradient))


def average(figures: dict[str, float]) -> dict[str, float]:
    """Return the means of figures over the processes, which all have the same names."""
    if count() == 1:
        return figures
    means = _mean(torch.tensor(list(figures.values()), dtype=torch.float64))
    return dict(zip(figures, means.tolist(), strict=True))


def any_of(flag: bool) -> bool:
    """Return whether a flag is set in any of the processes."""
    return average({"flag": float(flag)})["flag"] > 0


def wait() -> None:
    """Wait until all processes get here."""
    any_of(False)


def gather(tensor: Tensor) -> Tensor:
    """Return the tensors of all processes, `(count, *shape)`, on the CPU."""
    if count() == 1:
        return tensor[None].cpu()
    from accelerate import PartialState
    from accelerate.utils import gather as gather_all

    everyone: Tensor = gather_all(tensor[None].to(PartialState().device))
    return everyone.cpu()


def _mean(tensor: Tensor) -> Tensor:
    from accelerate import PartialState
    from accelerate.utils import reduce

    mean: Tensor = reduce(tensor.to(PartialState().device), reduction="mean")
    return mean
