"""The heads of Mask R-CNN, trained with the Lovász hinge on masks."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    fastrcnn_loss,
    project_masks_on_boxes,
)

from innerloop_vos.training.losses import lovasz_hinge

_OBJECT = 1
"""The only class besides the background."""


class LovaszRoIHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's heads, whose mask loss is the Lovász hinge of each positive box, averaged.

    The names of the parameters are torchvision's.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020, section 3.1.
    """

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections in evaluation mode, losses in training mode; the other is empty."""
        if not self.training or targets is None:
            detections: tuple[list[dict[str, Tensor]], dict[str, Tensor]] = super().forward(
                features, proposals, image_shapes, targets
            )
            return detections
        proposals, matches, labels, deltas = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, predicted = self.box_predictor(self.box_head(pooled))
        loss_classifier, loss_box = fastrcnn_loss(logits, predicted, labels, deltas)
        positive = [label > 0 for label in labels]
        boxes = [box[keep] for box, keep in zip(proposals, positive, strict=True)]
        matches = [match[keep] for match, keep in zip(matches, positive, strict=True)]
        masks = self.mask_predictor(
            self.mask_head(self.mask_roi_pool(features, boxes, image_shapes))
        )
        return [], {
            "loss_classifier": loss_classifier,
            "loss_box_reg": loss_box,
            "loss_mask": _mask_loss(masks, boxes, matches, targets),
        }


class MaskPredictor(MaskRCNNPredictor):  # type: ignore[misc]
    """torchvision's last two layers of the mask head, as products of matrices.

    Its transposed convolution, whose windows do not overlap, and its convolution see every pixel
    alone; so the maps of twice the size are never put together. On CPUs that halves the time.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, C, h, w) to the logits of every class, (n, classes, 2 h, 2 w)."""
        (count, _, height, width), up = features.shape, self.conv5_mask
        weight = up.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * C', C)
        fine = F.linear(features.permute(0, 2, 3, 1), weight, up.bias.repeat(4)).relu()
        last = self.mask_fcn_logits
        logits = F.linear(
            fine.reshape(count, height, width, 2, 2, up.out_channels), last.weight[..., 0, 0]
        )
        logits = (logits + last.bias).permute(0, 5, 1, 3, 2, 4)  # (n, classes, h, 2, w, 2)
        result: Tensor = logits.reshape(count, last.out_channels, 2 * height, 2 * width)
        return result


def _mask_loss(
    logits: Tensor, boxes: list[Tensor], matches: list[Tensor], targets: list[dict[str, Tensor]]
) -> Tensor:
    if not len(logits):
        return logits.sum() * 0
    # Not rounded to 0 and 1: a pixel of the target is the object's share of it.
    wanted = [
        project_masks_on_boxes(target["masks"], box, match, logits.shape[-1])
        for target, box, match in zip(targets, boxes, matches, strict=True)
        if len(box)
    ]
    return lovasz_hinge(logits[:, _OBJECT], torch.cat(wanted))
