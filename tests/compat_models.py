"""Modules that are awkward to adapt, and what is measured on them, for the compatibility layers."""

import ctypes
import gc

import torch
from torch import nn

torch.manual_seed(0)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.lstm(x.unsqueeze(1).expand(-1, 5, -1))[0][:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.second(self.first(x).tanh()).tanh())


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.ModuleDict({"layer": nn.Linear(3, 3), "norm": nn.LayerNorm(3)}) for _ in range(2)]
        )
        self.scale = nn.Parameter(torch.ones(2))
        self.head = nn.Sequential(nn.Sequential(nn.Linear(3, 2)))

    def forward(self, x):
        for block in self.blocks:
            x = block["norm"](block["layer"](x).tanh())
        return self.scale * self.head(x)


def frozen():
    module = plain()
    module[0].weight.requires_grad_(False)
    return module


def buffered():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def plain():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


MODELS = {
    "plain": plain,
    "lstm": Recurrent,
    "tied": Tied,
    "frozen": frozen,
    "buffered": buffered,
    "nested": Nested,
}


def build(name):
    """A model in double precision, the same for the same name."""
    torch.manual_seed(1)
    return MODELS[name]().double()


def data(count=6):
    """Support and query: inputs (count, 3) and targets (count, 2)."""
    generator = torch.Generator().manual_seed(2)
    shapes = ((count, 3), (count, 2), (count, 3), (count, 2))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def meta_gradients(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def finite_difference(outer, model, step=1e-6):
    """Derivative of `outer()` along the gradient that the model's parameters hold, and its own."""
    moving = [p for p in model.parameters() if p.grad is not None]
    direction = [p.grad.clone() for p in moving]
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(moving, direction, strict=True):
                p.add_(d, alpha=sign * step)
        values.append(outer().item())
        with torch.no_grad():
            for p, d in zip(moving, direction, strict=True):
                p.sub_(d, alpha=sign * step)
    slope = (values[0] - values[1]) / (2 * step)
    return slope, sum((d * d).sum().item() for d in direction)


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def allocated():
    """Megabytes that are allocated in this process now.

    What is resident says less: a process keeps some of what was freed, the more the longer it ran.
    """
    mallinfo = ctypes.CDLL(None).mallinfo2  # glibc 2.33 or newer
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return (found.uordblks + found.hblkhd) / 2**20


def memory_after(outer_step, repeats=4):
    """Megabytes allocated after each of some outer steps, the garbage collector switched off."""
    gc.collect()
    gc.disable()
    try:
        held = []
        for _ in range(repeats):
            outer_step()
            held.append(allocated())
        return held
    finally:
        gc.enable()
