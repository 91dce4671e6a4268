"""Architecture search as in DARTS: which function makes the data, among five candidates."""

import torch
from data import iterations
from torch import nn
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
CANDIDATES = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sine": torch.sin,
    "square": torch.square,
}
truth = 2 * torch.randn(3, 4)
inputs = torch.randn(400, 3)
targets = torch.sin(inputs @ truth) + 0.05 * torch.randn(400, 4)
train, validation = slice(0, 200), slice(200, None)


class Mixed(nn.Module):
    """A layer whose candidates are all applied, and weighed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(truth + 0.3 * torch.randn(3, 4))
        self.scale = nn.Parameter(torch.ones(len(CANDIDATES), 4))
        self.architecture = nn.Parameter(torch.zeros(len(CANDIDATES)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x @ self.first
        found = torch.stack([apply(x) for apply in CANDIDATES.values()])
        weights = self.architecture.softmax(0)[:, None, None]
        return (weights * self.scale[:, None] * found).sum(0)


net = Mixed()
model = il.Adapted(net, parameters=["first", "scale"])
optimizer = torch.optim.Adam([net.architecture], lr=0.1)


def loss(model, part):
    return F.mse_loss(model(inputs[part]), targets[part])


before = loss(model, validation).item()
for _ in range(iterations(150)):
    # One inner step; its derivative by the architecture needs no second derivatives.
    model = model.adapt(
        lambda m: loss(m, train), il.GradientDescent(0.1), adjoint=il.FiniteDifference()
    )
    optimizer.zero_grad()
    loss(model, validation).backward()
    optimizer.step()
    model.values = {name: value.detach() for name, value in model.values.items()}
weights = net.architecture.softmax(0)
chosen = list(CANDIDATES)[int(weights.argmax())]
print(f"darts: validation loss {before:.3f} before, {loss(model, validation).item():.3f} after")
print(f"  the data are made by sine; chosen: {chosen}, with weight {weights.max().item():.2f}")
