"""The coordinates of the problem itself: the parameters, with what they predict."""

from typing import NamedTuple

from torch import Tensor

from innerloop import trees
from innerloop.problems.linear import RidgeProblem
from innerloop.solvers.coordinates.base import Coordinates


class PrimalVector(NamedTuple):
    """Parameters with what they predict."""

    value: Tensor
    prediction: Tensor


class PrimalCoordinates(Coordinates):
    """The parameters themselves.

    Args:
        problem: the problem.
        init: parameters to start from.
        prediction: prediction at `init`. Default: it is computed.
    """

    def __init__(
        self, problem: RidgeProblem, init: Tensor, prediction: Tensor | None = None
    ) -> None:
        super().__init__(problem)
        self.start = PrimalVector(init, problem.predict(init) if prediction is None else prediction)

    def lift(self, vector: PrimalVector) -> tuple[Tensor, Tensor]:
        return vector.value, vector.prediction

    def pull(self, response: Tensor, vector: PrimalVector) -> PrimalVector:
        pulled = self.problem.transpose_weighed(response, vector.value)
        value: Tensor = trees.add_scaled(pulled, self.problem.regularization, vector.value)
        return PrimalVector(value, self.problem.predict(value))

    def residual(self, params: PrimalVector) -> tuple[Tensor, Tensor]:
        residual = params.prediction - self.problem.targets
        return residual, self.problem.weighted_square(residual)

    def response(self, direction: PrimalVector) -> Tensor:
        return direction.prediction

    def weighted_square(self, direction: PrimalVector) -> Tensor:
        return self.problem.weighted_square(direction.prediction)

    def dot(self, a: PrimalVector, b: PrimalVector) -> Tensor:
        return self.problem.dot(a.value, b.value)
