"""What several processes do with tasks: `torchrun tests/task_processes.py WHAT FOLDER`."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

import innerloop as il
from innerloop import trees

STEPS = 6


def made():
    """A net with learned rates, and its loss of a task."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 1)).double()
    rates = il.LearningRates(net, per="tensor", init=0.1)

    def task_loss(meta, task):
        net, rates = meta
        fit, test = task[:5], task[5:]
        adapted = il.adapt(
            net,
            lambda model: F.mse_loss(model(fit[:, :3]), fit[:, 3:]),
            il.GradientDescent(rates),
            steps=3,
        )
        return F.mse_loss(adapted(test[:, :3]), test[:, 3:])

    return net, rates, task_loss


def tasks(count, seed=0):
    return torch.randn(
        count, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def gradients(folder):
    """The same as in one process, for every mode and for numbers that do not divide."""
    group = dist.group.WORLD
    for count in (1, 2, 5, 6):
        for options in (
            {"mode": "loop", "seed": 3},
            {"mode": "loop", "seed": 3, "randomness": "same"},
            {"mode": "vmap", "chunk_size": 1, "seed": 3},
            {"mode": "vmap", "eval": True},
            {"mode": "vmap", "chunk_size": 2, "eval": True},
            {"mode": "threads", "eval": True},
        ):
            options = dict(options)
            net, rates, task_loss = made()
            net.train(not options.pop("eval", False))
            meta = [net, rates]
            alone = il.task_gradients(task_loss, meta, tasks(count), **options)
            shared = il.task_gradients(task_loss, meta, tasks(count), **options, group=group)
            torch.testing.assert_close(shared.losses, alone.losses, rtol=1e-12, atol=1e-14)
            for ours, theirs in zip(
                trees.leaves(shared.gradients), trees.leaves(alone.gradients), strict=True
            ):
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def failures(folder):
    """One that fails ends all, with its error; so does a loss that is not finite."""
    net, rates, task_loss = made()
    last = dist.get_world_size() - 1

    def failing(meta, task):
        if dist.get_rank() == last:
            raise KeyError("no such task")
        return task_loss(meta, task)

    mine = dist.get_rank() == last
    expected = (KeyError, "no such task") if mine else (RuntimeError, f"in process {last}")
    with pytest.raises(expected[0], match=expected[1]):
        il.task_gradients(failing, [net, rates], tasks(6), group=dist.group.WORLD)

    bad = tasks(6)
    bad[4] = torch.nan

    def of_data(meta, task):
        return task_loss(meta, task.nan_to_num()) + task.sum()

    def of_nothing(meta, task):
        return task.sum()

    for mode in ("loop", "vmap"):
        options = {"mode": mode, "group": dist.group.WORLD}
        with pytest.raises(FloatingPointError, match="first of task 4"):
            il.task_gradients(of_data, [net.eval(), rates], bad, **options)
        with pytest.raises(ValueError, match="depends on no meta-parameter"):
            il.task_gradients(of_nothing, [net, rates], tasks(6), **options)


def batches(stop=None):
    """Batches that draw from torch's generator, as careless users do."""
    torch.manual_seed(5)
    for step in range(STEPS):
        if step == stop and dist.get_rank() == dist.get_world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield torch.randn(5, 9, 4, dtype=torch.float64)


def trained(folder, stop=None, checkpoint=True):
    """Meta-train, and write the parameters of every process."""
    net, rates, task_loss = made()
    if dist.get_rank():  # all start from those of the first
        for parameter in net.parameters():
            parameter.data.add_(1)
    optimizer = torch.optim.Adam([*net.parameters(), *rates.parameters()], 0.01)
    history = il.meta_train(
        task_loss,
        [net, rates],
        batches(stop),
        optimizer,
        seed=7,
        group=dist.group.WORLD,
        checkpoint=folder / "checkpoint.pt" if checkpoint else None,
    )
    assert len(history) == STEPS
    torch.save([net.state_dict(), history], folder / f"trained-{dist.get_rank()}.pt")


def killed(folder):
    """One is killed before the fourth step."""
    trained(folder, stop=3)


def restarted(folder):
    """One is killed once; torchrun starts all again."""
    first = not (folder / "second").exists()
    dist.barrier()
    (folder / "second").touch()
    trained(folder, stop=3 if first else None)


def main():
    dist.init_process_group("gloo")
    globals()[sys.argv[1]](Path(sys.argv[2]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
