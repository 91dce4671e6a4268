"""A deep-equilibrium model: a layer applied until nothing changes, with implicit gradients."""

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

inject, repeat, readout = nn.Linear(64, 48), nn.Linear(48, 48, bias=False), nn.Linear(48, 10)
parameters = [*inject.parameters(), *repeat.parameters(), *readout.parameters()]


def equilibrium(x, solver, adjoint=None):
    """The z (samples, 48) with z = tanh(W z + U x + b): every sample is a problem of its own."""
    shift, weight = inject(x), repeat.weight
    # With a norm below 1 there is one equilibrium, and iterating finds it.
    weight = 0.95 * weight / torch.linalg.matrix_norm(weight, 2)
    return il.solve(
        il.FixedPoint(lambda z: torch.tanh(z @ weight.mT + shift), batch_shape=(len(x),)),
        torch.zeros(len(x), 48),
        solver,
        steps=60,
        tolerance=1e-4,
        adjoint=adjoint or il.Implicit(tolerance=1e-4),
    )


def accuracy() -> float:
    with torch.no_grad():
        scores = readout(equilibrium(images[test], il.Anderson(), il.Detach()).value)
    return 100 * (scores.argmax(-1) == labels[test]).float().mean().item()


before = accuracy()
optimizer = torch.optim.Adam(parameters, lr=3e-3)
for _ in range(iterations(200)):
    batch = torch.randint(1200, (64,))
    scores = readout(equilibrium(images[batch], il.Anderson()).value)
    loss = F.cross_entropy(scores, labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"equilibrium: test accuracy {before:.1f} % untrained, {accuracy():.1f} % trained")
steps = {
    solver: len(equilibrium(images[test], solver, il.Detach()).stats.losses)
    for solver in (il.FixedPointIteration(), il.Anderson())
}
counts = ", ".join(f"{count} of {type(solver).__name__}" for solver, count in steps.items())
print(f"  applications of the layer until |f(z) - z| has fallen by 10,000: {counts}")
