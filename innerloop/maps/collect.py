"""The gradient of features that many convolutions share, summed in place.

Each convolution of an unrolled solve sends the features a gradient of their size. Here none of
these is stored: each is a matrix product that is added to the sum as it is computed.
"""

import weakref
from typing import Any

from torch import Tensor

from innerloop._primitive import Primitive
from innerloop._torch import current_backward_pass
from innerloop.maps.convolution import patches, taps


class Collector:
    """Sums the gradients of features within a backward pass."""

    def __init__(self) -> None:
        self._pass = -1
        self._total: Tensor | None = None
        self._features: weakref.ref[Tensor] | None = None

    def watch(self, features: Tensor) -> Tensor:
        """The features (*batch, N, C, H, W), whose gradient includes what was summed.

        Only these collect here: a checkpoint may replace them by other tensors.
        """
        watched: Tensor = _Collected.apply(features, self)
        self._features = weakref.ref(watched)
        return watched

    def collects_for(self, features: Tensor) -> bool:
        """Whether these are the features that it watches."""
        return self._features is not None and self._features() is features

    def add(self, responses: Tensor, filters: Tensor, rows: Tensor | None = None) -> None:
        """Add the features whose inner product with any x is that of the responses with x * τ.

        Args:
            responses: shape (*batch, N, D, H, W).
            filters: τ, shape (*batch, D, C, K, K).
            rows: the patches of the responses to a single frame, where they are at hand.
        """
        responses, filters = (t.reshape(-1, *t.shape[-4:]) for t in (responses, filters))
        current = current_backward_pass()
        if self._total is None or self._pass != current:
            # A pass that did not need this gradient has left its sum behind.
            batch, frames, _, height, width = responses.shape
            self._total = responses.new_zeros(batch, frames, height * width, filters.shape[-3])
            self._pass = current
        for total, shown, filter_ in zip(self._total, responses, filters, strict=True):
            # Frame by frame: the patches of all frames would take the memory that is saved here.
            for frame, response in zip(total, shown.split(1), strict=True):
                left = patches(response, filter_.shape[-1]) if rows is None else rows
                frame.addmm_(left, taps(filter_))

    def take(self) -> Tensor | None:
        """The sum of this pass, shape (batch, N, H·W, C), and forget it; None if there is none."""
        total, self._total = self._total, None
        return total if self._pass == current_backward_pass() else None


class _Collected(Primitive):
    """The features (*batch, N, C, H, W); their gradient is what comes back plus what was summed."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, collector: Collector) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.collector, ctx.shape = collector, features.movedim(-3, -1).shape
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, outer: Tensor | None) -> Any:
        total = ctx.collector.take()
        if total is None:
            return outer, None
        collected = total.reshape(ctx.shape).movedim(-1, -3)
        return (collected if outer is None else outer + collected), None
