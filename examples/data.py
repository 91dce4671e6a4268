"""Tasks for the examples: regression of sinusoids, and classification of handwritten digits."""

import math
import sys
from collections.abc import Sequence

import torch
from sklearn.datasets import load_digits
from torch import Tensor

Tasks = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support inputs, support targets, query inputs and query targets, tasks first."""


def iterations(default: int) -> int:
    """Outer steps to take: the first argument of the command, for example `anil.py 20`, if any."""
    return int(sys.argv[1]) if len(sys.argv) > 1 else default


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


def few_shot(
    classes: Sequence[Tensor], tasks: int, ways: int = 5, shots: int = 1, queries: int = 10
) -> Tasks:
    """Classification tasks of random classes; a class rotated by a multiple of 90 degrees is
    another one.

    Args:
        classes: the images of each class, (count, C, H, H); at least `shots + queries`.
        tasks, ways, shots, queries: number of tasks, of classes per task, and of images per class.

    Returns:
        Images (tasks, ways * shots or queries, C, H, H) and labels.
    """

    def draw() -> tuple[Tensor, ...]:
        support, query = [], []
        for label in torch.randperm(len(classes))[:ways]:
            images = classes[int(label)]
            images = images[torch.randperm(len(images))[: shots + queries]]
            images = images.rot90(int(torch.randint(4, ())), (-2, -1))
            support.append(images[:shots])
            query.append(images[shots:])
        labels = torch.arange(ways)
        return (
            torch.cat(support),
            labels.repeat_interleave(shots),
            torch.cat(query),
            labels.repeat_interleave(queries),
        )

    support_x, support_y, query_x, query_y = (
        torch.stack(part) for part in zip(*(draw() for _ in range(tasks)), strict=True)
    )
    return support_x, support_y, query_x, query_y


class Digits:
    """5-way 1-shot tasks on 8 x 8 digits: unchanged for training, mirrored for testing."""

    def __init__(self) -> None:
        data = load_digits()
        images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
        self.images = [images[torch.tensor(data.target) == digit] for digit in range(10)]

    def __call__(self, tasks: int, test: bool = False) -> Tasks:
        """Images (tasks, 5 or 50, 1, 8, 8) and labels."""
        support_x, support_y, query_x, query_y = few_shot(self.images, tasks)
        if test:
            support_x, query_x = support_x.mT, query_x.mT
        return support_x, support_y, query_x, query_y
