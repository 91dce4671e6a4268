"""MAML on sinusoids."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.compare.maml import Maml, maml_suite
from innerloop.compare.suite import Suite

SHOTS = 10


def suite(quick: bool) -> Suite:
    """Regression of sinusoids from 10 points by a perceptron of two hidden layers of 40.

    Source:
        Finn et al., Model-Agnostic Meta-Learning, ICML 2017, section 5.1.
    """
    count, steps = (4, 3) if quick else (25, 5)
    return maml_suite(
        f"{count} sinusoids of {SHOTS} points, MLP of width 40",
        Maml(_net, _tasks(count), F.mse_loss, rate=0.01, steps=steps),
    )


def _net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)]
        return nn.Sequential(*layers).double()


def _tasks(count: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    uniform = partial(torch.rand, generator=generator, dtype=torch.float64)
    amplitude = 0.1 + 4.9 * uniform(count, 1, 1)
    phase = math.pi * uniform(count, 1, 1)
    support, query = 10 * uniform(2, count, SHOTS, 1) - 5
    return (
        support,
        amplitude * torch.sin(support - phase),
        query,
        amplitude * torch.sin(query - phase),
    )
