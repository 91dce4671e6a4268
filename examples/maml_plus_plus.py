"""MAML++: rates of every layer and step, batch statistics in every step, on 5-way digits."""

import torch
from data import Digits
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
net = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(64, 5)),
)
STEPS = 3
rates = il.LearningRates(net, per="tensor", init=0.2, per_step=STEPS)
model = il.Adapted(net, buffers="batch_statistics")
meta = {"init": dict(net.named_parameters()), "rates": dict(rates.named_parameters())}
digits = Digits()


def adapt(meta, task, adjoint=None):
    support_x, support_y = task[:2]
    return model.adapt(
        lambda model: F.cross_entropy(model(support_x), support_y),
        il.GradientDescent(lambda step: functional_call(rates, meta["rates"], step)),
        init=meta["init"],
        steps=STEPS,
        adjoint=adjoint,
    )


def task_loss(meta, task):
    return F.cross_entropy(adapt(meta, task)(task[2]), task[3])


def accuracy(tasks: int = 200) -> float:
    right = [
        (adapt(meta, task, il.Detach())(task[2]).argmax(-1) == task[3]).float().mean()
        for task in zip(*digits(tasks, test=True), strict=True)
    ]
    return 100 * torch.stack(right).mean().item()


before = accuracy()
optimizer = torch.optim.Adam([*net.parameters(), *rates.parameters()], lr=2e-3)
batches = (digits(4) for _ in range(250))
il.meta_train(task_loss, meta, batches, optimizer, mode="vmap", after_step=rates.clamp_)
print(f"MAML++: accuracy on new classes {before:.1f} % untrained, {accuracy():.1f} % trained")
for name, row in rates.report().items():
    print(f"  {name:9} rates {row.minimum:.3f} to {row.maximum:.3f}")
