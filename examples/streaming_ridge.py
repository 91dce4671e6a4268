"""Few-shot learning without end: classes arrive one by one, and no image is kept.

A ridge regression on random features learns ten digits from statistics: those of new images are
added, and the solution is exactly that of all images at once. A logistic regression has no such
statistics: starting from the ridge solution, it needs all images again, or forgets the old ones.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

import innerloop as il

SHOTS, WAYS, CHANNELS, REGULARIZATION = 20, 10, 300, 0.01

torch.manual_seed(0)
data = load_digits()
order = torch.randperm(len(data.target))
images = torch.tensor(data.data)[order] / 16
labels = torch.tensor(data.target)[order]
projection = torch.randn(CHANNELS, images.shape[1], dtype=torch.float64) / 2
features = F.normalize(torch.relu(images @ projection.mT))


Samples = tuple[Tensor, Tensor]
"""Features and one-hot targets."""


def samples(digit: int) -> Samples:
    """The training samples of a class."""
    chosen = features[labels == digit][:SHOTS]
    return chosen, F.one_hot(torch.full((SHOTS,), digit), WAYS).double()


def accuracy(head: Tensor, classes: int) -> float:
    """Percent of the test images of the first classes."""
    right = []
    for digit in range(classes):
        test = features[labels == digit][SHOTS:]
        right.append((test @ head[:classes].mT).argmax(-1) == digit)
    return 100 * torch.cat(right).double().mean().item()


def logistic(samples: Samples, start: Tensor) -> Tensor:
    """The head of a logistic regression, a few steps from where it starts."""
    problem = il.LogisticRegression(*samples, regularization=REGULARIZATION)
    return il.solve(problem, start, il.IRLS(), steps=3).value


start = torch.zeros(WAYS, CHANNELS, dtype=torch.float64)
statistics, kept = None, []
print("classes   ridge, %   from all at once   logistic: all images, %   new images, %")
for digit in range(WAYS):
    new = samples(digit)
    added = il.Statistics.linear(*new)
    statistics = added if statistics is None else statistics + added
    head = il.solve(il.NormalEquations(statistics, REGULARIZATION), start, il.Ridge()).value

    # To compare with, and only for that, the images are kept.
    kept.append(new)
    features_so_far, targets_so_far = (torch.cat(part) for part in zip(*kept, strict=True))
    batch = il.LinearLeastSquares(features_so_far, targets_so_far, regularization=REGULARIZATION)
    difference = (head - il.solve(batch, start, il.Ridge()).value).abs().max().item()
    full = logistic((features_so_far, targets_so_far), head)
    print(
        f"{digit + 1:7}{accuracy(head, digit + 1):11.1f}{difference:19.1e}"
        f"{accuracy(full, digit + 1):26.1f}{accuracy(logistic(new, head), digit + 1):16.1f}"
    )
numbers = sum(tensor.numel() for tensor in statistics.state_dict().values())
print(f"after {WAYS} classes: {numbers:,} numbers are kept, however many images there were")
