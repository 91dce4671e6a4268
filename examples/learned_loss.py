"""A learned loss: a function of residuals that fits lines through data with outliers."""

import torch
from data import iterations
from torch import nn

import innerloop as il

torch.manual_seed(0)
TASKS, POINTS = 16, 20
loss_network = nn.Sequential(nn.Linear(2, 16), nn.Softplus(), nn.Linear(16, 1), nn.Softplus())


def tasks():
    """Lines (slope and height), points on them, and heights of the points with outliers."""
    lines = torch.randn(TASKS, 2)
    inputs = torch.stack([torch.rand(TASKS, POINTS) * 4 - 2, torch.ones(TASKS, POINTS)], -1)
    clean = (inputs @ lines.unsqueeze(-1)).squeeze(-1)
    outliers = torch.where(torch.rand(TASKS, POINTS) < 0.3, 6 * torch.rand(TASKS, POINTS), 0.0)
    return lines, inputs, clean + 0.1 * torch.randn(TASKS, POINTS) + outliers


def learned(residual):
    sides = torch.stack([residual, -residual], -1).relu()
    return loss_network(sides).squeeze(-1)


def fit(inputs, heights, loss, rate, steps=30):
    def mean_loss(lines):
        return loss((inputs @ lines.unsqueeze(-1)).squeeze(-1) - heights).mean(-1)

    problem = il.Objective(mean_loss, batch_shape=(TASKS,))
    return il.solve(problem, torch.zeros(TASKS, 2), il.GradientDescent(rate), steps=steps).value


def error(loss, rate) -> float:
    """Distance of the lines found from the true ones, over tasks that were not trained on."""
    torch.manual_seed(1)
    found = []
    for _ in range(10):
        lines, inputs, heights = tasks()
        with torch.no_grad():
            found.append((fit(inputs, heights, loss, rate) - lines).norm(dim=-1).mean())
    return torch.stack(found).mean().item()


log_rate = torch.tensor(-1.0, requires_grad=True)
optimizer = torch.optim.Adam([*loss_network.parameters(), log_rate], lr=0.01)
count = iterations(400)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, count)
squares, absolute = error(torch.square, 0.3), error(torch.abs, 0.3)
for _ in range(count):
    lines, inputs, heights = tasks()
    outer = (fit(inputs, heights, learned, log_rate.exp()) - lines).square().sum(-1).mean()
    optimizer.zero_grad()
    outer.backward()
    optimizer.step()
    schedule.step()
print(f"learned_loss: distance from the true line {squares:.2f} with squares, {absolute:.2f} with")
print(f"  absolute residuals, {error(learned, log_rate.exp().item()):.2f} after learning the loss")
