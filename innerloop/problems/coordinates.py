"""Linear least squares in coordinates that suit steps along gradients.

Every vector goes together with its prediction here: sums of vectors then have theirs for nothing,
and a gradient comes with the response along it. A solver whose `coordinate_free` is true sees a
problem like any other; it takes sums and inner products, in whatever coordinates.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from innerloop import trees
from innerloop.autodiff import Operator
from innerloop.problems.base import QuadraticProblem

if TYPE_CHECKING:
    from innerloop.problems.linear import RidgeProblem


class Coordinates(QuadraticProblem):
    """A `RidgeProblem` of vectors that carry their prediction.

    Attributes:
        start: the vector to start from.
    """

    start: Any

    def __init__(self, problem: "RidgeProblem") -> None:
        self.problem = problem
        self.batch_shape = problem.batch_shape

    @abstractmethod
    def lift(self, vector: Any) -> tuple[Tensor, Tensor]:
        """The parameters of the problem that a vector stands for, and what they predict."""

    @abstractmethod
    def pull(self, response: Tensor, vector: Any) -> Any:
        """A' W² r + λ vector, where A is the problem's linear map.

        Args:
            response: r, in the form that `residual` and `response` give.
            vector: in these coordinates.
        """

    @abstractmethod
    def residual(self, params: Any) -> tuple[Tensor, Tensor]:
        """The residual r, in the form that `pull` takes, and |W r|² per problem."""

    @abstractmethod
    def response(self, direction: Any) -> Tensor:
        """The prediction of a vector, in the form that `pull` takes."""

    @abstractmethod
    def weighted_square(self, direction: Any) -> Tensor:
        """|W times the prediction of a vector|² per problem."""

    def loss(self, params: Any) -> Tensor:
        return self._penalized(self.residual(params)[1], params)

    def _penalized(self, fit: Tensor, params: Any) -> Tensor:
        return 0.5 * (fit + self.problem.regularization * self.dot(params, params))

    def predict(self, params: Any) -> None:
        return None

    def evaluate(self, params: Any, prediction: Tensor | None = None) -> tuple[Tensor, Any]:
        residual, fit = self.residual(params)
        return self._penalized(fit, params), self.pull(residual, params)

    def respond(self, params: Any, direction: Any) -> Tensor:
        response: Tensor = direction.prediction
        return response

    def curvature(self, direction: Any, response: Tensor, square: Tensor | None = None) -> Tensor:
        if square is None:
            square = self.dot(direction, direction)
        return self.weighted_square(direction) + self.problem.regularization * square

    def gauss_newton_operator(self, params: Any) -> Operator:
        return lambda direction: self.pull(self.response(direction), direction)


class PrimalVector(NamedTuple):
    """Parameters with what they predict."""

    value: Tensor
    prediction: Tensor


class PrimalCoordinates(Coordinates):
    """The parameters themselves.

    Args:
        problem: the problem.
        init: parameters to start from.
        prediction: of `init`. Default: it is computed.
    """

    def __init__(
        self, problem: "RidgeProblem", init: Tensor, prediction: Tensor | None = None
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
