"""Hyperparameter learning: a weight per training sample, with half of the labels wrong."""

import torch
from data import iterations
from sklearn.datasets import load_digits
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
data = load_digits()
order = torch.randperm(len(data.target))
features = torch.tensor(data.data, dtype=torch.float32)[order] / 16
labels = torch.tensor(data.target)[order]
train, validation, test = slice(0, 300), slice(300, 600), slice(600, None)
wrong = torch.rand(300) < 0.5
noisy = torch.where(wrong, torch.randint(10, (300,)), labels[train])

weight_logits = torch.zeros(300, requires_grad=True)
log_decay = torch.tensor(-4.0, requires_grad=True)


def fit():
    """Weights (10, 64) of a linear classifier: a minimum, as a function of the hyperparameters."""

    def loss(weight):
        entropy = F.cross_entropy(features[train] @ weight.T, noisy, reduction="none")
        penalty = 0.5 * log_decay.exp() * weight.square().sum()
        return (weight_logits.sigmoid() * entropy).mean() + penalty

    return il.solve(
        loss,
        torch.zeros(10, 64),
        il.Newton(il.Armijo()),
        steps=8,
        tolerance=1e-4,
        adjoint=il.Implicit(steps=100, tolerance=1e-4),
    ).value


def accuracy() -> float:
    with torch.no_grad():
        right = (features[test] @ fit().T).argmax(-1) == labels[test]
    return 100 * right.float().mean().item()


before = accuracy()
optimizer = torch.optim.Adam([weight_logits, log_decay], lr=0.3)
for _ in range(iterations(30)):
    outer = F.cross_entropy(features[validation] @ fit().T, labels[validation])
    optimizer.zero_grad()
    outer.backward()
    optimizer.step()
weights = weight_logits.sigmoid().detach()
print(f"hyperparameters: test accuracy {before:.1f} % before, {accuracy():.1f} % after")
right, wrong_ones = weights[~wrong].mean(), weights[wrong].mean()
print(f"  mean weight {right:.2f} of right labels, {wrong_ones:.2f} of wrong ones")
