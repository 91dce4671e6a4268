"""R2D2: features for a ridge regression in closed form; 5-way digits."""

import torch
from data import Digits, iterations
from torch import nn
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
net = nn.Sequential(
    *(nn.Conv2d(1, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2)),
    nn.Flatten(),
)
log_regularization = nn.Parameter(torch.tensor(0.0))
log_scale = nn.Parameter(torch.tensor(0.0))
digits = Digits()


def scores(tasks):
    """Scores (tasks, queries, 5): every task is a problem of one batched solve."""
    support_x, support_y, query_x, _ = tasks
    support, query = (net(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in (support_x, query_x))
    problem = il.LinearLeastSquares(
        support, F.one_hot(support_y, 5).float(), regularization=log_regularization.exp()
    )
    start = support.new_zeros(len(support), 5, support.shape[-1])
    head = il.solve(problem, start, il.Ridge()).value
    return log_scale.exp() * query @ head.mT


def accuracy(tasks: int = 200) -> float:
    test = digits(tasks, test=True)
    with torch.no_grad():
        return 100 * (scores(test).argmax(-1) == test[3]).float().mean().item()


before = accuracy()
optimizer = torch.optim.Adam([*net.parameters(), log_regularization, log_scale], lr=2e-3)
for _ in range(iterations(300)):
    batch = digits(8)
    loss = F.cross_entropy(scores(batch).flatten(0, 1), batch[3].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"R2D2: accuracy on new classes {before:.1f} % untrained, {accuracy():.1f} % trained")
print(f"  learned regularization {log_regularization.exp().item():.2f}")
