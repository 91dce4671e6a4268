"""Linear least squares in the span of the start and the rows of the linear map.

Responses are rows of pixels here, one column per output, which the Gram matrix multiplies fastest.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.conv import ConvLeastSquares
from innerloop.solvers.coordinates.base import Coordinates


class DualVector(NamedTuple):
    """A combination a · init + A'β, with what it predicts."""

    share: Tensor  # a, shape (*batch)
    dual: Tensor  # β, shape (*batch, rows, D)
    prediction: Tensor  # shaped like β
    weighed: Tensor  # W² prediction
    along_init: Tensor  # the inner product with init, shape (*batch)


class DualCoordinates(Coordinates):
    """The span of the start and the rows of the linear map A, which no gradient leaves.

    The gradient at a · init + A'β is λ a · init + A'(W² residual + λ β), and its prediction needs
    only the Gram matrix AA', which is cheaper to multiply with if there are fewer rows than
    columns. `pull` takes r in the form W² r.

    Args:
        problem: the problem.
        gram: AA' of one output, shape (*batch, rows, rows).
        init: parameters to start from.
        prediction: prediction at `init`. Default: it is computed.

    Source:
        Schölkopf et al., A Generalized Representer Theorem, COLT 2001.
    """

    problem: ConvLeastSquares

    def __init__(
        self,
        problem: ConvLeastSquares,
        gram: Tensor,
        init: Tensor,
        prediction: Tensor | None = None,
    ) -> None:
        super().__init__(problem)
        self._gram = gram
        self._init = init
        self._prediction = problem.rows(problem.predict(init) if prediction is None else prediction)
        self._square = problem.dot(init, init)
        self._targets = problem.rows(problem.targets)
        weights = problem.weights
        self._weights = None if weights is None else problem.rows(weights).square()
        self._weighed_targets = self._weigh(self._targets)
        ones, zeros = torch.ones_like(self._square), torch.zeros_like(self._prediction)
        weighed = self._weigh(self._prediction)
        self.start = DualVector(ones, zeros, self._prediction, weighed, self._square)

    def lift(self, vector: DualVector) -> tuple[Tensor, Tensor]:
        dual, prediction = map(self.problem.responses, (vector.dual, vector.prediction))
        pulled = self.problem.transpose(dual, self._init)
        return trees.add_scaled(pulled, vector.share, self._init), prediction

    def pull(self, response: Tensor, vector: DualVector) -> DualVector:
        decay = self.problem.regularization
        dual = trees.add_scaled(response, decay, vector.dual)
        share = decay * vector.share
        prediction = trees.add_scaled(self._gram @ dual, share, self._prediction)
        along_init = self.problem.dot(self._prediction, dual) + share * self._square
        return DualVector(share, dual, prediction, self._weigh(prediction), along_init)

    def dot(self, a: DualVector, b: DualVector) -> Tensor:
        product = self.problem.dot(a.dual, b.prediction) + a.share * b.along_init
        # Rounding must not make a squared norm negative.
        return product.clamp(min=0.0) if a is b else product

    def residual(self, params: DualVector) -> tuple[Tensor, Tensor]:
        weighed = params.weighed - self._weighed_targets
        return weighed, self.problem.dot(params.prediction - self._targets, weighed)

    def response(self, direction: DualVector) -> Tensor:
        return direction.weighed

    def weighted_square(self, direction: DualVector) -> Tensor:
        return self.problem.dot(direction.prediction, direction.weighed)

    def _weigh(self, response: Tensor) -> Tensor:
        return response if self._weights is None else self._weights * response
