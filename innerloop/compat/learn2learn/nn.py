"""Layers for transforms, like `learn2learn.nn`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Flatten", "KroneckerLinear", "Lambda", "Scale"]


class KroneckerLinear(nn.Module):
    """A linear map of n·m entries whose matrix is a Kronecker product, initially the identity.

    It maps a matrix x to L·x·R + b, so a vector, its columns below each other, to (Rᵀ ⊗ L)·x + b.

    Args:
        n: size of the left factor.
        m: size of the right factor.
        bias: add the bias b. Default True.
        psd: use Lᵀ·L and Rᵀ·R in place of the factors, which makes the matrix positive
            semi-definite. Default False.
        device: device of the parameters. Default: torch's.

    Source:
        Jose et al., Kronecker Recurrent Units, ICML 2018.
    """

    def __init__(
        self,
        n: int,
        m: int,
        bias: bool = True,
        psd: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.eye(n, device=device))
        self.right = nn.Parameter(torch.eye(m, device=device))
        self.bias = nn.Parameter(torch.zeros(n, m, device=device)) if bias else None
        self.psd = psd

    def forward(self, x: Tensor) -> Tensor:
        """Map matrices (..., n, m), or a vector of n·m entries.

        Raises:
            ValueError: x has another shape.
        """
        n, m = len(self.left), len(self.right)
        if x.shape == (n * m,):
            return self._map(x.view(m, n).mT).mT.reshape(n * m)
        if x.shape[-2:] != (n, m):
            raise ValueError(
                f"x: shape {tuple(x.shape)}, should be (..., {n}, {m}) or ({n * m},), as of the "
                "layer"
            )
        return self._map(x)

    def _map(self, x: Tensor) -> Tensor:
        left: Tensor = self.left
        right: Tensor = self.right
        if self.psd:
            left, right = left.mT @ left, right.mT @ right
        y = left @ x @ right
        return y if self.bias is None else y + self.bias


class Lambda(nn.Module):
    """A function as a module.

    Args:
        lmb: the function.
    """

    def __init__(self, lmb: Callable[..., Any]) -> None:
        super().__init__()
        self.lmb = lmb

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.lmb(*args, **kwargs)


class Flatten(nn.Module):
    """Map (batch, ...) to (batch, entries)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)


class Scale(nn.Module):
    """Multiply every entry by a factor that is learned.

    Args:
        shape: shape of the factors. Default: one for all entries.
        alpha: initial factors. Default 1.
    """

    def __init__(self, shape: int | tuple[int, ...] | None = None, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full(_sizes(shape), float(alpha)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.alpha


def _sizes(shape: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if shape is None:
        return (1,)
    return (shape,) if isinstance(shape, int) else tuple(shape)
