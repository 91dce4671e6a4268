"""Evolution strategies: outer gradients from values of the outer loss alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.checks import check_parameter, check_whole
from innerloop.solvers.base import check_not_negative
from innerloop.trees import Tree


def smoothed_loss(
    loss: Callable[[Tree], Tensor],
    params: Tree,
    *,
    sigma: float = 0.1,
    pairs: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Estimate E[loss(params + sigma · e)] for normal e, with the gradient of that expectation.

    Both estimates are unbiased. The gradient is the mean of

        (loss(params + sigma · e) − loss(params − sigma · e)) / (2 sigma) · e

    over pairs of values, so `loss` need not be differentiable: it may hold solves of any length,
    at the memory of their parameters. Where the landscape of long unrolls is chaotic, the gradient
    of its smoothed form may be worth more than its own. Errors shrink with the root of `pairs` and
    grow with the root of the number of parameters.

        def loss(h):
            return outer(il.solve(make(h), init, il.Adam(0.01), steps=500).value)

        il.smoothed_loss(loss, h, pairs=32).backward()

    Args:
        loss: maps parameters to a scalar; called without gradient, `2 * pairs` times.
        params: a tensor or a tree of tensors; those that require it receive the gradient.
        sigma: standard deviation of the perturbations, the same for all entries. Default 0.1.
        pairs: number of antithetic pairs. Default 8.
        generator: draws the perturbations, on the device of the parameters: the same seed gives the
            same estimate. Default: torch's global generator.

    Returns:
        The mean of all values, a scalar. It can be differentiated once.

    Raises:
        TypeError, ValueError: an argument does not fit, or `loss` returns no scalar.

    Source:
        Salimans et al., Evolution Strategies as a Scalable Alternative to Reinforcement Learning,
        2017, section 2; Metz et al., Understanding and Correcting Pathologies in the Training of
        Learned Optimizers, ICML 2019, eq. 3.
    """
    check_whole("pairs", pairs, 1)
    check_not_negative(sigma=sigma)
    if sigma == 0:
        raise ValueError("sigma: 0, should be positive")
    for name, leaf in trees.named_leaves(params):
        check_parameter(f"params[{name!r}]" if name else "params", leaf)

    with torch.no_grad():
        center = trees.detach(params)
        gradient, values = trees.zeros_like(center), []
        for _ in range(pairs):
            noise = trees.tree_map(lambda leaf: _normal(leaf, generator), center)
            up, down = (
                _scalar(loss(trees.tree_map(lambda p, e, s=side: p + s * e, center, noise)))
                for side in (sigma, -sigma)
            )
            slope = (up - down) / (2 * sigma * pairs)
            gradient = trees.tree_map(lambda g, e, s=slope: g + s.to(e) * e, gradient, noise)
            values += [up, down]
        value = torch.stack(values).mean()
    for part, leaf in zip(trees.leaves(gradient), trees.leaves(params), strict=True):
        value = value + (part * (leaf - leaf.detach())).sum().to(value)
    return value


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _scalar(value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss: returned {found}, should return a tensor with one value")
    return value.reshape(())
