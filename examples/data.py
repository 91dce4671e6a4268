"""Tasks for the examples: sinusoids to regress, and handwritten digits to tell apart."""

import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor

Tasks = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support inputs, support targets, query inputs and query targets, tasks first."""


def sinusoids(tasks: int, shots: int = 10) -> Tasks:
    """Sinusoids of random amplitude and phase, as in the MAML paper; inputs (tasks, shots, 1)."""
    amplitude = 0.1 + 4.9 * torch.rand(tasks, 1, 1)
    phase = math.pi * torch.rand(tasks, 1, 1)
    support, query = 10 * torch.rand(2, tasks, shots, 1) - 5
    return (
        support,
        amplitude * torch.sin(support - phase),
        query,
        amplitude * torch.sin(query - phase),
    )


class Digits:
    """5-way tasks on 8 x 8 images of digits: turned for training, turned and mirrored for testing.

    A digit turned by a multiple of 90 degrees is a class of its own.
    """

    def __init__(self) -> None:
        data = load_digits()
        images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
        self.images = [images[torch.tensor(data.target) == digit] for digit in range(10)]

    def __call__(self, tasks: int, shots: int = 1, queries: int = 10, test: bool = False) -> Tasks:
        """Images (tasks, 5 * shots or queries, 1, 8, 8) and labels."""
        drawn = [self._task(shots, queries, test) for _ in range(tasks)]
        support_x, support_y, query_x, query_y = (
            torch.stack(part) for part in zip(*drawn, strict=True)
        )
        return support_x, support_y, query_x, query_y

    def _task(self, shots: int, queries: int, test: bool) -> Tasks:
        support, query = [], []
        for digit in torch.randperm(10)[:5]:
            images = self.images[int(digit)]
            images = images[torch.randperm(len(images))[: shots + queries]]
            images = images.rot90(int(torch.randint(4, ())), (-2, -1))
            images = images.mT if test else images
            support.append(images[:shots])
            query.append(images[shots:])
        labels = torch.arange(5)
        return (
            torch.cat(support),
            labels.repeat_interleave(shots),
            torch.cat(query),
            labels.repeat_interleave(queries),
        )
