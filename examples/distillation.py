"""Dataset distillation: one image a digit, learned so that a network trained on them does well."""

import torch
from data import iterations
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
data = load_digits()
order = torch.randperm(len(data.target))
images = torch.tensor(data.data, dtype=torch.float32)[order] / 8 - 1
labels = torch.tensor(data.target)[order]
train, test = slice(0, 1200), slice(1200, None)
classes = torch.arange(10)

first = torch.stack([images[train][labels[train] == digit][0] for digit in range(10)])
distilled = first.clone().requires_grad_()
log_rate = torch.tensor(-1.0, requires_grad=True)


def trained(inputs, rate):
    """A new network after a few steps on ten images."""
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    return il.adapt(
        net,
        lambda model: F.cross_entropy(model(inputs), classes),
        il.GradientDescent(rate),
        steps=15,
    )


def accuracy(inputs, rate) -> float:
    """The mean over networks with different initial weights."""
    torch.manual_seed(1)
    with torch.no_grad():
        found = [trained(inputs, rate)(images[test]).argmax(-1) == labels[test] for _ in range(10)]
    return 100 * torch.stack(found).float().mean().item()


# The real images get the best of several rates, the learned ones their learned rate.
before = max(accuracy(first, rate) for rate in (0.1, 0.2, 0.4, 0.8, 1.6))
optimizer = torch.optim.Adam([distilled, log_rate], lr=0.03)
for _ in range(iterations(300)):
    batch = torch.randint(1200, (256,))
    outer = F.cross_entropy(trained(distilled, log_rate.exp())(images[batch]), labels[batch])
    optimizer.zero_grad()
    outer.backward()
    optimizer.step()
after = accuracy(distilled.detach(), log_rate.exp().detach())
print(f"distillation: test accuracy {before:.1f} % of networks trained on ten real images,")
print(f"  {after:.1f} % after these were learned")
