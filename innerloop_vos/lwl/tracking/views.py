"""The filters of an object: one, or one for each of two views of the features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop_vos.lwl.model.target_model import TargetModel
from innerloop_vos.lwl.tracking.trust import consensus


class Views:
    """What the filters of an object see: all features, and beside it those without colour.

    Tensors of objects (O, ...) become tensors of filters (O * views, ...), side by side.

    Args:
        target_model: whose features they are.
        both: whether there is the second view.
    """

    def __init__(self, target_model: TargetModel, both: bool) -> None:
        self._target_model = target_model
        self.count = 1 + both

    def of(self, features: Tensor) -> Tensor:
        """Features (O, ..., C, h, w) as each filter sees them."""
        if self.count == 1:
            return features
        plain = self._target_model.without_colours(features)
        return torch.stack([features, plain], dim=1).flatten(0, 1)

    def repeated(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Parts of each object, for each of its filters."""
        return [part.repeat_interleave(self.count, dim=0) for part in parts]

    def merged(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of filters as those to segment by and those to learn from, (O, D, h, w)."""
        if self.count == 1:
            return scores, scores
        return consensus(scores[::2], scores[1::2])
