"""Coordinates in which steps along gradients of linear least squares are cheapest."""

from torch import Tensor

from innerloop.problems.conv import ConvLeastSquares
from innerloop.problems.linear import RidgeProblem
from innerloop.solvers.coordinates.base import Coordinates
from innerloop.solvers.coordinates.dual import DualCoordinates
from innerloop.solvers.coordinates.primal import PrimalCoordinates


def cheapest(
    problem: RidgeProblem, init: Tensor, steps: int, prediction: Tensor | None = None
) -> Coordinates:
    """The coordinates in which that many steps along gradients are cheapest.

    Args:
        problem: what is minimised.
        init: parameters to start from.
        steps: how many steps will be taken.
        prediction: prediction at `init`, if that is known. Default: it is computed.
    """
    gram = problem.dual_gram(init, steps)
    if gram is not None and isinstance(problem, ConvLeastSquares):
        return DualCoordinates(problem, gram, init, prediction)
    return PrimalCoordinates(problem, init, prediction)


__all__ = ["Coordinates", "DualCoordinates", "PrimalCoordinates", "cheapest"]
