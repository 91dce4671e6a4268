"""Products of a linear map with several vectors at once, and vectors to probe it with."""

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.trees import Tree


def products(operator: Operator, vectors: Tensor, like: Tree, batch_dims: int) -> Tensor:
    """H V, one product for each column of V.

    Args:
        operator: H, a map between trees structured like `like`.
        vectors: V, the same for all problems, shape (n, k), where a problem has n parameters.
        like: parameters of all problems.
        batch_dims: number of leading dimensions that count problems.

    Returns:
        Shape (*batch, n, k).
    """
    flat = trees.ravel(like, batch_dims)
    columns = [
        operator(trees.unravel(vector.to(flat).expand_as(flat), like, batch_dims))
        for vector in vectors.unbind(-1)
    ]
    return torch.stack([trees.ravel(column, batch_dims) for column in columns], -1)


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
