"""ANIL: only the last layer adapts, on features learned for it; 5-way digits."""

import torch
from data import Digits, iterations
from torch import nn
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
net = nn.Sequential(
    *(nn.Conv2d(1, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(128, 5)),
)
model = il.Adapted(net, parameters="9.*")
init = dict(net.named_parameters())
digits = Digits()


def adapt(init, task):
    support_x, support_y = task[:2]
    return model.adapt(
        lambda model: F.cross_entropy(model(support_x), support_y),
        il.GradientDescent(0.05),
        init=init,
        steps=5,
    )


def task_loss(init, task):
    return F.cross_entropy(adapt(init, task)(task[2]), task[3])


def accuracy(tasks: int = 200) -> float:
    right = [
        (adapt(init, task)(task[2]).argmax(-1) == task[3]).float().mean()
        for task in zip(*digits(tasks, test=True), strict=True)
    ]
    return 100 * torch.stack(right).mean().item()


before = accuracy()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
il.meta_train(task_loss, init, (digits(4) for _ in range(iterations(200))), optimizer, mode="vmap")
print(f"ANIL: accuracy on new classes {before:.1f} % untrained, {accuracy():.1f} % trained")
