"""Few-shot classification by MAML with the four-layer convolutional net, for every norm layer."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.compare.maml import Maml, maml_suite
from innerloop.compare.registry import Factory
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal

TASKS, WAYS, SHOTS = 2, 5, 1
WIDTHS = (8, 32, 64)

# Norm layers by the statistics of the batch, given the channels and the side of their input.
NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda width, side: nn.Identity(),
    "batchnorm": lambda width, side: nn.BatchNorm2d(width, track_running_stats=False),
    "layernorm": lambda width, side: nn.LayerNorm([width, side, side]),
    "groupnorm": lambda width, side: nn.GroupNorm(4, width),
    "instancenorm": lambda width, side: nn.InstanceNorm2d(width, affine=True),
    "rmsnorm": lambda width, side: nn.RMSNorm([width, side, side]),
}


def factory(width: int, norm: str) -> Factory:
    """The suite of a net's width and norm layer.

    In single precision, rounding may change the winner of a max pooling, and the meta-gradient then
    jumps; in double precision that is rare.

    Source:
        Finn et al., Model-Agnostic Meta-Learning, ICML 2017, section 5.2 (the net); their inputs
        are images, here patterns in noise.
    """
    return partial(_suite, width, norm)


def _suite(width: int, norm: str, quick: bool) -> Suite:
    steps, side = (2, 16) if quick else (3, 28)
    return maml_suite(
        f"{TASKS} tasks, {WAYS}-way {SHOTS}-shot, {side}x{side}, 4-conv net of width {width}, "
        f"norm: {norm}",
        Maml(
            partial(_net, width, norm, side),
            _tasks(side),
            F.cross_entropy,
            rate=0.1,
            steps=steps,
        ),
    )


def _net(width: int, norm: str, side: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(4):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                NORMS[norm](width, side),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            channels, side = width, side // 2
        net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, WAYS)).double()
        # As after some training: the default affine parameters hide errors.
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def _tasks(side: int) -> tuple[Tensor, ...]:
    """One pattern per class, in noise; support and query have the same number of images."""
    patterns = normal(TASKS, 1, WAYS, 1, side, side, seed=1)
    images = patterns + normal(TASKS, 2 * SHOTS, WAYS, 1, side, side, seed=2)
    support, query = images[:, :SHOTS].flatten(1, 2), images[:, SHOTS:].flatten(1, 2)
    labels = torch.arange(WAYS).repeat(SHOTS).expand(TASKS, -1)
    return support, labels, query, labels
