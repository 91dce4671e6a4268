"""Evolution strategies: outer gradients from values of the outer loss alone."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.checks import check_parameter, check_whole, named
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
    _check(params, sigma, pairs)
    with torch.no_grad():
        center = trees.detach(params)
        gradient, values = trees.zeros_like(center), []
        for _ in range(pairs):
            noise = _noise(center, sigma, generator)
            up, down = (_scalar(loss(_moved(center, side, noise))) for side in (1, -1))
            gradient = _moved(gradient, (up - down) / (2 * sigma**2 * pairs), noise)
            values += [up, down]
    return _with_gradient(values, gradient, params)


def smoothed_loss_in_windows(
    loss: Callable[[Tree, Any], tuple[Tensor, Any]],
    params: Tree,
    start: Any,
    *,
    windows: int,
    sigma: float = 0.1,
    pairs: int = 8,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Persistent evolution strategies: an unbiased gradient for every window of one long solve.

    Every particle, of antithetic pairs, has an inner state of its own, which goes on from window to
    window, and the sum ξ of the perturbations e that it has seen, drawn anew for each window. The
    gradient of a window is the mean over pairs of

        (loss(params + e) − loss(params − e)) / (2 sigma²) · ξ

    While the parameters stay the same, the sum over all windows is an unbiased estimate of the
    gradient of the sum of their smoothed losses. That of truncated evolution strategies, with e for
    ξ, lacks what a window does to the losses of later ones. Outer steps may change the parameters
    between windows:

        def window(h, carried):
            solution = il.solve(make(h), carried[0], il.Adam(0.01), steps=20, state=carried[1])
            return outer(solution.value), (solution.value, solution.state)

        for value in il.smoothed_loss_in_windows(window, h, (init, None), windows=50):
            outer_optimizer.zero_grad()
            value.backward()
            outer_optimizer.step()

    Args:
        loss: takes the steps of a window from parameters and an inner state, and returns the
            window's loss, a scalar, and the next inner state; called without gradient, `2 * pairs`
            times in every window.
        params: a tensor or a tree of tensors; those that require it receive the gradient. They are
            read when a window begins.
        start: the inner state that all particles start from, of any kind; `loss` should not change
            it in place.
        windows: number of windows, at least 0.
        sigma, pairs, generator: see `smoothed_loss`.

    Yields:
        The mean loss of each window, a scalar. It can be differentiated once.

    Raises:
        TypeError, ValueError: an argument does not fit, or `loss` returns no scalar and state.

    Source:
        Vicol, Metz and Sohl-Dickstein, Unbiased Gradient Estimation in Unrolled Computation Graphs
        with Persistent Evolution Strategies, ICML 2021, algorithm 2.
    """
    check_whole("windows", windows, 0)
    _check(params, sigma, pairs)

    def losses() -> Iterator[Tensor]:
        states = [[start, start] for _ in range(pairs)]
        sums = [trees.zeros_like(trees.detach(params)) for _ in range(pairs)]
        for _ in range(windows):
            with torch.no_grad():
                center = trees.detach(params)
                gradient, values = trees.zeros_like(center), []
                for pair in range(pairs):
                    noise = _noise(center, sigma, generator)
                    sums[pair] = trees.add(sums[pair], noise)
                    found = [
                        _with_state(loss(_moved(center, side, noise), state))
                        for side, state in zip((1, -1), states[pair], strict=True)
                    ]
                    (up, down), states[pair] = [list(column) for column in zip(*found, strict=True)]
                    slope = (up - down) / (2 * sigma**2 * pairs)
                    gradient = _moved(gradient, slope, sums[pair])
                    values += [up, down]
            yield _with_gradient(values, gradient, params)

    return losses()


def _check(params: Tree, sigma: float, pairs: int) -> None:
    check_whole("pairs", pairs, 1)
    check_not_negative(sigma=sigma)
    if sigma == 0:
        raise ValueError("sigma: 0, should be positive")
    for name, leaf in trees.named_leaves(params):
        check_parameter(f"params[{name!r}]" if name else "params", leaf)


def _noise(like: Tree, sigma: float, generator: torch.Generator | None) -> Tree:
    """Normal numbers of this standard deviation."""
    return trees.tree_map(lambda leaf: sigma * _normal(leaf, generator), like)


def _moved(tree: Tree, size: float | Tensor, direction: Tree) -> Tree:
    return trees.tree_map(
        lambda leaf, part: leaf + torch.as_tensor(size).to(part) * part, tree, direction
    )


def _with_gradient(values: list[Tensor], gradient: Tree, params: Tree) -> Tensor:
    """The mean of values, with this gradient by the parameters."""
    value = torch.stack(values).mean()
    for part, leaf in zip(trees.leaves(gradient), trees.leaves(params), strict=True):
        value = value + (part * (leaf - leaf.detach())).sum().to(value)
    return value


def _with_state(pair: object) -> tuple[Tensor, Any]:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(
            f"loss: returned {named(pair)}, should return a pair of the loss and the next state"
        )
    return _scalar(pair[0]), pair[1]


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _scalar(value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss: returned {found}, should return a tensor with one value")
    return value.reshape(())
