"""Products of a linear map with several vectors at once, and vectors to probe it with."""

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.trees import Tree


def on_vectors(operator: Operator, params: Tree, batch_dims: int) -> Operator:
    """The same map between vectors, shape (*batch, n), of parameters side by side."""

    def product(vector: Tensor) -> Tensor:
        return trees.ravel(operator(trees.unravel(vector, params, batch_dims)), batch_dims)

    return product


def products(product: Operator, vectors: Tensor, like: Tensor) -> Tensor:
    """H V, one product for each column of V.

    Args:
        product: H, a linear map of vectors shaped like `like`.
        vectors: V, the same for all problems, shape (n, k).
        like: shape (*batch, n).

    Returns:
        Shape (*batch, n, k).
    """
    columns = [product(vector.to(like).expand_as(like)) for vector in vectors.unbind(-1)]
    return torch.stack(columns, -1)


def assembled(product: Operator, like: Tensor) -> Tensor:
    """The matrix (*batch, n, n) of a linear map of vectors shaped like `like`, (*batch, n)."""
    return products(product, torch.eye(like.shape[-1], dtype=like.dtype, device=like.device), like)


def hadamard(count: int, width: int, like: Tensor) -> Tensor:
    """The first rows and columns of Hadamard's matrix of signs, shape (count, width).

    Two rows are orthogonal unless their distance is a multiple of `width`, a power of 2.
    """
    row = torch.arange(count, device=like.device).unsqueeze(-1)
    common = row & torch.arange(width, device=like.device)
    parity = torch.zeros_like(common)
    for bit in range(width.bit_length()):
        parity = parity ^ (common >> bit & 1)
    return (1 - 2 * parity).to(like.dtype)


def random_signs(count: int, width: int, like: Tensor) -> Tensor:
    """A fixed matrix of signs that look random, shape (count, width).

    They are made by arithmetic: the same on every device, and also under transforms, where torch
    draws no random numbers.

    Source:
        Appleby, MurmurHash3 (the last mixing step of its 32 bits).
    """
    low = 0xFFFFFFFF
    bits = torch.arange(1, count * width + 1, device=like.device)
    bits = (bits ^ bits >> 16) * 0x85EBCA6B & low
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 & low
    return (1 - 2 * ((bits ^ bits >> 16) & 1)).to(like.dtype).reshape(count, width)
