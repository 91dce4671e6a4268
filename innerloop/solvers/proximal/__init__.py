"""Solvers of composite problems: steps along the gradient, followed by a proximal operator."""

from innerloop.solvers.proximal.backtracking import Backtracking
from innerloop.solvers.proximal.fista import FISTA
from innerloop.solvers.proximal.gradient import ProximalGradient
from innerloop.solvers.proximal.mirror import MirrorDescent

__all__ = ["FISTA", "Backtracking", "MirrorDescent", "ProximalGradient"]
