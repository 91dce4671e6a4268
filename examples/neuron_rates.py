"""A learning rate per neuron, as in e-OSVOS: first order, memory constant in the steps."""

import torch
from data import Digits, iterations
from torch import nn
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
net = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(64, 5)),
)
rates = il.LearningRates(net, per="neuron", init=0.05)
meta = [net, rates]
digits = Digits()


def adapt(meta, task, steps=5):
    net, rates = meta
    support_x, support_y = task[:2]
    return il.adapt(
        net,
        lambda model: F.cross_entropy(model(support_x), support_y),
        il.GradientDescent(rates),
        steps=steps,
        adjoint=il.FirstOrder(),
    )


def task_loss(meta, task):
    return F.cross_entropy(adapt(meta, task)(task[2]), task[3])


def accuracy(tasks: int = 200) -> float:
    right = [
        (adapt(meta, task)(task[2]).argmax(-1) == task[3]).float().mean()
        for task in zip(*digits(tasks, test=True), strict=True)
    ]
    return 100 * torch.stack(right).mean().item()


before = accuracy()
optimizer = torch.optim.RAdam([*net.parameters(), *rates.parameters()], lr=5e-3)
batches = (digits(4) for _ in range(iterations(250)))
il.meta_train(task_loss, meta, batches, optimizer, mode="vmap", after_step=rates.clamp_)
print(f"neuron rates: accuracy on new classes {before:.1f} % untrained, {accuracy():.1f} % trained")
for name, row in rates.report().items():
    print(f"  {name:9} mean rate {row.mean:.3f}, {100 * row.frozen:.0f} % frozen")
