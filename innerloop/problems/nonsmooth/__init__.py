"""Nonsmooth terms and constraints, each known by its proximal operator."""

from innerloop.problems.nonsmooth.base import Nonsmooth
from innerloop.problems.nonsmooth.norms import L1, GroupLasso
from innerloop.problems.nonsmooth.sets import Box, ConvexSet, L2Ball, NonNegative, Simplex

__all__ = [
    "L1",
    "Box",
    "ConvexSet",
    "GroupLasso",
    "L2Ball",
    "NonNegative",
    "Nonsmooth",
    "Simplex",
]
