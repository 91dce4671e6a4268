"""Products with one and the same large matrix, again and again."""

from collections.abc import Callable

import torch
from torch import Tensor

from innerloop.autodiff import transforming

_LARGE = 1024
"""Rows of a matrix from which a product spends much of its time on laying it out."""


def multiplier(matrix: Tensor, count: int) -> Callable[[Tensor], Tensor]:
    """Lay a matrix out for products with it.

    On a processor, in single precision and where no gradient is wanted, a large one is laid out
    once, by oneDNN; else every product does so anew.

    Args:
        matrix: shape (*batch, N, N), symmetric.
        count: M, how many rows are multiplied at a time.

    Returns:
        The map of rows, shape (*batch, M, N), to their products with the matrix, shaped alike.
    """
    if count == 1 or not _packs(matrix):
        # The matrix is symmetric; transposed, the product is the faster one.
        return lambda rows: rows @ matrix.mT
    # Operations that inductor compiles linear layers to; they have no derivative.
    mkldnn = torch.ops.mkldnn
    layouts = [mkldnn._reorder_linear_weight(one, count) for one in _listed(matrix)]

    def multiply(rows: Tensor) -> Tensor:
        products = [
            mkldnn._linear_pointwise(one, layout, None, "none", [], "")
            for one, layout in zip(_listed(rows), layouts, strict=True)
        ]
        # No copy for a single problem.
        return (products[0] if len(products) == 1 else torch.cat(products)).reshape(rows.shape)

    return multiply


def _packs(matrix: Tensor) -> bool:
    return (
        matrix.device.type == "cpu"
        and matrix.dtype == torch.float32
        and matrix.shape[-1] >= _LARGE
        and matrix.numel() > 0
        and not transforming()
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def _listed(matrices: Tensor) -> list[Tensor]:
    """Matrices (*batch, M, N) one by one."""
    return list(matrices.reshape(-1, *matrices.shape[-2:]))
