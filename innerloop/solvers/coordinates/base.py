"""Linear least squares in coordinates that suit steps along gradients.

Every vector carries its prediction here: sums of vectors then have their predictions for free, and
a gradient comes with its response. A solver that only takes sums and inner products sees an
ordinary problem.
"""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from innerloop._autodiff import Operator
from innerloop.problems.base import QuadraticProblem
from innerloop.problems.linear import RidgeProblem
from innerloop.solvers.base import TransformedProblem


class Coordinates(QuadraticProblem, TransformedProblem):
    """A `RidgeProblem` of vectors that carry their prediction."""

    def __init__(self, problem: RidgeProblem) -> None:
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
            vector: vector in these coordinates.
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
