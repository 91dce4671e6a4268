"""Features of boxes, with a derivative that is fast on CPUs."""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

_SAMPLES = 2
"""Samples along each side of a cell."""


class BoxPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """torchvision's RoIAlign on the levels of a feature pyramid, 2 by 2 samples a cell.

    On CPUs its derivative is computed by products of matrices, which is several times as fast.

    Args:
        levels: names of the levels, whose strides begin at 4 and double from each to the next.
        size: side of the grid of cells.

    Source:
        He et al., Mask R-CNN, ICCV 2017, section 3 (RoIAlign); Lin et al., Feature Pyramid Networks
        for Object Detection, CVPR 2017, eq. 1 (the level of a box).
    """

    def __init__(self, levels: list[str], size: int) -> None:
        super().__init__(levels, size, _SAMPLES)

    def forward(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Pool boxes (n, 4), a tensor per image: features (n of all, C, size, size)."""
        (size, _), levels = self.output_size, [features[name] for name in self.featmap_names]
        if levels[0].device.type != "cpu" or not levels[0].requires_grad:
            pooled: Tensor = super().forward(features, boxes, image_shapes)
            return pooled
        corners = torch.cat(boxes)
        images = torch.cat([box.new_full((len(box), 1), i) for i, box in enumerate(boxes)])
        rois = torch.cat([images, corners], 1)
        side = (corners[:, 2:] - corners[:, :2]).prod(1).sqrt()
        # On the level of stride 16, a box of 224 pixels has about the size of one of ImageNet.
        level = (2 + (side / 224).log2() + 1e-6).floor().clamp(0, len(levels) - 1)
        result = levels[0].new_zeros(len(rois), levels[0].shape[1], size, size)
        for index, maps in enumerate(levels):
            at = (level == index).nonzero()[:, 0]
            found = _RoIAlign.apply(maps, rois[at], size, 2.0 ** -(index + 2))
            result = result.index_copy(0, at, found.to(result))
        return result


class _RoIAlign(torch.autograd.Function):
    """RoIAlign whose derivative is a product of matrices, as bilinear weights are separable."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
        ctx.save_for_backward(rois)
        ctx.shape, ctx.size, ctx.scale = features.shape, size, scale
        pooled: Tensor = roi_align(features, rois, size, scale, _SAMPLES)
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (rois,) = ctx.saved_tensors
        result = rois.new_zeros(ctx.shape)  # single or double precision
        rows = _weights(rois[:, 2::2], ctx.size, ctx.shape[2], ctx.scale)
        columns = _weights(rois[:, 1::2], ctx.size, ctx.shape[3], ctx.scale)
        parts = rois[:, 0].long().tolist(), _spans(rows), _spans(columns)
        for image, y, x, down, across, part in zip(
            *parts, rows, columns, gradient.to(rois), strict=True
        ):
            result[image, :, y, x] += down[:, y].T @ (part @ across[:, x])
        return result.to(gradient), None, None, None


def _weights(ends: Tensor, size: int, length: int, scale: float) -> Tensor:
    """The weights of `length` pixels in each of the `size` cells between ends (n, 2)."""
    start, stop = (scale * ends)[..., None].unbind(1)
    share = (torch.arange(size * _SAMPLES, dtype=ends.dtype) + 0.5) / (size * _SAMPLES)
    at = start + (stop - start).clamp(min=1) * share
    inside = (at >= -1) & (at <= length)
    distance = (at.clamp(0, length - 1)[..., None] - torch.arange(length)).abs()
    weights = (1 - distance).clamp(min=0) * inside[..., None]
    return weights.reshape(len(ends), size, _SAMPLES, length).mean(2)


def _spans(weights: Tensor) -> list[slice]:
    """The range of the pixels that are not 0, for each of the weights (n, cells, pixels)."""
    used = weights.any(1).int()
    first, last = used.argmax(1), used.shape[1] - used.flip(1).argmax(1)
    return [slice(*ends) for ends in zip(first.tolist(), last.tolist(), strict=True)]
