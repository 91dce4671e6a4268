"""Meta-SGD: learn the initialisation and a learning rate per parameter, on sinusoids."""

import torch
from data import iterations, sinusoids
from torch import nn
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
rates = il.LearningRates(net, per="parameter", init=0.01)
meta = [net, rates]


def task_loss(meta, task, steps=1):
    support_x, support_y, query_x, query_y = task
    net, rates = meta
    adapted = il.adapt(
        net,
        lambda model: F.mse_loss(model(support_x), support_y),
        il.GradientDescent(rates),
        steps=steps,
    )
    return F.mse_loss(adapted(query_x), query_y)


optimizer = torch.optim.Adam([*net.parameters(), *rates.parameters()], lr=2e-3)
il.meta_train(
    task_loss,
    meta,
    (sinusoids(25) for _ in range(iterations(1000))),
    optimizer,
    mode="vmap",
    after_step=rates.clamp_,
)
for steps in (0, 1):
    errors = [task_loss(meta, task, steps).item() for task in zip(*sinusoids(200), strict=True)]
    print(f"Meta-SGD: error {sum(errors) / len(errors):.2f} after {steps} steps on 10 points")
for name, row in rates.report().items():
    print(f"  {name:9} mean rate {row.mean:.4f}, {100 * row.frozen:.0f} % frozen")
