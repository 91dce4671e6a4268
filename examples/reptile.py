"""Reptile: move the initialisation towards the adapted parameters, on sinusoids."""

import torch
from data import iterations, sinusoids
from torch import nn
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
model = il.Adapted(net)


def adapt(init, task, steps, adjoint):
    return model.adapt(
        lambda model: F.mse_loss(model(task[0]), task[1]),
        il.GradientDescent(0.02),
        init=init,
        steps=steps,
        adjoint=adjoint,
    )


def task_loss(init, task):
    # Reptile has no query set; any loss of the adapted parameters works.
    adapted = adapt(init, task, steps=10, adjoint=il.Reptile())
    return sum(value.sum() for value in adapted.values.values())


init = dict(net.named_parameters())
test_tasks = list(zip(*sinusoids(200), strict=True))


def test_error() -> float:
    errors = []
    for task in test_tasks:
        adapted = adapt(init, task, steps=10, adjoint=il.Detach())
        errors.append(F.mse_loss(adapted(task[2]), task[3]).item())
    return sum(errors) / len(errors)


before = test_error()
optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
batches = (sinusoids(10) for _ in range(iterations(1000)))
il.meta_train(task_loss, init, batches, optimizer, mode="vmap")
print(
    f"Reptile: error after 10 steps on 10 points {before:.2f} untrained, {test_error():.2f} trained"
)
