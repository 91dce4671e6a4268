"""Random numbers of the suites: the same at every call, in every dtype."""

import torch
from torch import Tensor


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
