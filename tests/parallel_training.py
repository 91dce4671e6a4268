"""A tiny training, and what two processes do with it: `torchrun tests/parallel_training.py OUT`."""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from innerloop_vos.training import processes
from innerloop_vos.training.loop import Training, run

SEED, STEPS = 7, 6


class Regression(Training):
    """Fits a network to noise, which it draws from torch's generator and from `others`."""

    def __init__(self, others=(), interrupt_at=None):
        torch.manual_seed(SEED)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.generators, self.interrupt_at = [None, *others], interrupt_at
        self.evaluations = 0

    def step(self, iteration):
        if iteration == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        draws = [torch.randn(3, 5, dtype=torch.float64, generator=g) for g in self.generators]
        batch = torch.cat(draws)
        loss = F.mse_loss(self.network(batch[:, :4]), batch[:, 4:])
        self.optimizer.zero_grad()
        loss.backward()
        processes.average_gradients(self.network.parameters())
        self.optimizer.step()
        return {"train/loss": loss.item()}

    def evaluate(self):
        self.evaluations += 1
        torch.rand(1)  # an evaluation may draw too
        return {"held out/loss": float(self.evaluations)}

    def export(self, folder):
        with (folder / "exports").open("a") as file:
            file.write(f"{processes.rank()}\n")
        torch.save(self.network.state_dict(), folder / "weights.pt")

    def configuration(self):
        return {}

    def parts(self):
        return {"network": self.network, "optimizer": self.optimizer}


def _gradients_that_differ() -> None:
    """A parameter that has a gradient in one process only, and one that has none in any."""
    shared, sole, unused = (nn.Parameter(torch.zeros(2, 2)) for _ in range(3))
    shared.grad = torch.full((2, 2), float(processes.rank()))
    if processes.rank() == 1:
        sole.grad = torch.ones(2, 2)
    processes.average_gradients([shared, sole, unused])
    assert shared.grad.eq(0.5).all()
    assert sole.grad.eq(0.5).all()
    assert unused.grad is None


def _main(out: Path) -> None:
    with processes.connected(torch.device("cpu")) as device:
        assert (processes.count(), device) == (2, torch.device("cpu"))
        _gradients_that_differ()
        assert run(Regression(), out / "whole", STEPS, every=4)
        # The signal reaches one process; both stop after the same step.
        interrupted = Regression(interrupt_at=2 if processes.rank() == 1 else None)
        assert not run(interrupted, out / "parts", STEPS, every=4)
        training = Regression()
        assert run(training, out / "parts", STEPS, every=4, resume=True)
        assert training.evaluations == (2 if processes.rank() == 0 else 0)
    assert processes.count() == 1


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
