"""Linear least squares in coordinates that suit steps along gradients.

Every vector goes together with its prediction here: sums of vectors then have theirs for nothing,
and a gradient comes with the response along it. A solver whose `coordinate_free` is true sees a
problem like any other; it takes sums and inner products, in whatever coordinates.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
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
    def lift(self, vector: Any) -> Tensor:
        """The parameters of the problem that a vector stands for."""

    @abstractmethod
    def pull(self, residual: Tensor, vector: Any) -> Any:
        """A' residual + λ vector, where A is the problem's linear map."""

    def loss(self, params: Any) -> Tensor:
        fit = self.problem.weighted_square(params.prediction - self.problem.targets)
        return 0.5 * (fit + self.problem.regularization * self.dot(params, params))

    def predict(self, params: Any) -> None:
        return None

    def evaluate(self, params: Any, prediction: Tensor | None = None) -> tuple[Tensor, Any]:
        residual = params.prediction - self.problem.targets
        weighed = self.problem.weigh(residual)
        # Half the loss that a step reports is at hand; its weighted residual would be another.
        fit = self.problem.dot(residual, weighed)
        loss = 0.5 * (fit + self.problem.regularization * self.dot(params, params))
        return loss, self.pull(weighed, params)

    def respond(self, params: Any, direction: Any) -> Tensor:
        response: Tensor = direction.prediction
        return response

    def curvature(self, direction: Any, response: Tensor) -> Tensor:
        square = self.dot(direction, direction)
        return self.problem.weighted_square(response) + self.problem.regularization * square

    def gauss_newton_operator(self, params: Any) -> Operator:
        return lambda direction: self.pull(self.problem.weigh(direction.prediction), direction)


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

    def lift(self, vector: PrimalVector) -> Tensor:
        return vector.value

    def pull(self, residual: Tensor, vector: PrimalVector) -> PrimalVector:
        decay = trees.per_problem(self.problem.regularization, vector.value) * vector.value
        value = self.problem.transpose(residual, vector.value) + decay
        return PrimalVector(value, self.problem.predict(value))

    def dot(self, a: PrimalVector, b: PrimalVector) -> Tensor:
        return self.problem.dot(a.value, b.value)


class DualVector(NamedTuple):
    """A combination a · init + A'β, with what it predicts."""

    share: Tensor  # a, shape (*batch)
    dual: Tensor  # β, shaped like the targets
    prediction: Tensor
    along_init: Tensor  # the inner product with init, shape (*batch)


class DualCoordinates(Coordinates):
    """The span of the start and the rows of the linear map A, which no gradient leaves.

    The gradient at a · init + A'β is λ a · init + A'(W² residual + λ β), and its prediction takes
    but the Gram matrix AA': for fewer rows than columns the cheaper one to multiply with.

    Args:
        problem: the problem.
        gram: the map β ↦ AA'β.
        init: parameters to start from.
        prediction: of `init`. Default: it is computed.

    Source:
        Schölkopf et al., A Generalized Representer Theorem, COLT 2001.
    """

    def __init__(
        self,
        problem: "RidgeProblem",
        gram: Operator,
        init: Tensor,
        prediction: Tensor | None = None,
    ) -> None:
        super().__init__(problem)
        self._gram = gram
        self._init = init
        self._prediction = problem.predict(init) if prediction is None else prediction
        self._square = problem.dot(init, init)
        ones, zeros = torch.ones_like(self._square), torch.zeros_like(self._prediction)
        self.start = DualVector(ones, zeros, self._prediction, self._square)

    def lift(self, vector: DualVector) -> Tensor:
        pulled = self.problem.transpose(vector.dual, self._init)
        return trees.add_scaled(pulled, vector.share, self._init)  # type: ignore[no-any-return]

    def pull(self, residual: Tensor, vector: DualVector) -> DualVector:
        decay = self.problem.regularization
        dual = trees.add_scaled(residual, decay, vector.dual)
        share = decay * vector.share
        prediction = trees.add_scaled(self._gram(dual), share, self._prediction)
        along_init = self.problem.dot(self._prediction, dual) + share * self._square
        return DualVector(share, dual, prediction, along_init)

    def dot(self, a: DualVector, b: DualVector) -> Tensor:
        product = self.problem.dot(a.dual, b.prediction) + a.share * b.along_init
        # Rounding must not make a square negative.
        return product.clamp(min=0.0) if a is b else product
