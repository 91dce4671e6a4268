"""The network of e-OSVOS: a Mask R-CNN that separates one object from the background."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, RPNHead, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from innerloop_vos.eosvos.pooling import BoxPool
from innerloop_vos.eosvos.roi_heads import LovaszRoIHeads, MaskPredictor

_CLASSES = 2
_LEVELS = ["0", "1", "2", "3"]
_RATIOS = (0.5, 1.0, 2.0)
_HEADS: dict[str, type[RoIHeads]] = {"lovasz": LovaszRoIHeads, "cross-entropy": RoIHeads}
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoded(NamedTuple):
    """Images that have passed the first layers of the backbone."""

    images: list[Tensor]
    """As given."""
    batch: ImageList
    """Resized and normalised."""
    targets: list[dict[str, Tensor]] | None
    """Resized; None to detect."""
    output: Tensor
    """Output of the last layer that was passed."""
    levels: dict[str, Tensor]
    """Outputs of these layers for the feature pyramid."""
    depth: int
    """Number of layers that were passed."""


class EOSVOS(GeneralizedRCNN):  # type: ignore[misc]
    """Mask R-CNN with two classes, finer masks and the Lovász hinge as its mask loss.

    The names of the parameters are those of torchvision's Mask R-CNN.

    Args:
        backbone: backbone with a feature pyramid of strides 4, 8, 16, 32 and 64.
        image_size: images are resized until their short side has the first number of pixels, or
            their long side the second. Default (800, 1333).
        anchors: side of the anchors in pixels at each of the five strides.
        box_features: width of the box head. Default 1024.
        mask_features: width of the mask head. Default 256.
        mask_pooling: side of the grid that the mask head sees of a box; masks have twice as many
            pixels. Default 28.
        mask_levels: number of the finest strides that the mask head sees. Default 4.
        sampled_anchors: anchors per image that the losses are computed on. Default 256.
        sampled_boxes: boxes per image that the losses are computed on. Default 512.
        proposals: boxes per image that the network proposes to its heads in training and in
            detection. Default (2000, 1000).
        mask_loss: "lovasz", as in the paper, or "cross-entropy", as in Mask R-CNN. Default
            "lovasz".
        frozen_layers: number of first layers of the backbone that are frozen; their parameters
            require no gradient. Default 0.
        mask_norm: makes the normalisation of the mask head's convolutions from their channels.
            Default: none.
        colours: mean and standard deviation of the colours that the backbone expects, RGB in 0..1.
            Default: ImageNet's.
        builder: name of the function that builds such a network, for weight files.

    Attributes:
        sizes: the arguments of the builder that say how large the network is.
        builder: see Args.
        autocast: precision of all layers, `torch.bfloat16` or `torch.float16`; boxes and losses
            keep that of the weights. Default: None, for layers too.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020, section 3.1; He et al., Mask R-CNN, ICCV 2017.
    """

    def __init__(
        self,
        backbone: BackboneWithFPN,
        *,
        image_size: Sequence[int] = (800, 1333),
        anchors: Sequence[int] = (32, 64, 128, 256, 512),
        box_features: int = 1024,
        mask_features: int = 256,
        mask_pooling: int = 28,
        mask_levels: int = 4,
        sampled_anchors: int = 256,
        sampled_boxes: int = 512,
        proposals: Sequence[int] = (2000, 1000),
        mask_loss: Literal["lovasz", "cross-entropy"] = "lovasz",
        frozen_layers: int = 0,
        mask_norm: Callable[[int], nn.Module] | None = None,
        colours: tuple[Sequence[float], Sequence[float]] = _IMAGENET,
        builder: str = "",
    ) -> None:
        channels = backbone.out_channels
        most = {"training": proposals[0], "testing": proposals[1]}
        rpn = RegionProposalNetwork(
            AnchorGenerator(tuple((side,) for side in anchors), (_RATIOS,) * len(anchors)),
            RPNHead(channels, len(_RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=sampled_anchors,
            positive_fraction=0.5,
            pre_nms_top_n=most,
            post_nms_top_n=most,
            nms_thresh=0.7,
        )
        heads = _HEADS[mask_loss](
            box_roi_pool=BoxPool(_LEVELS, 7),
            box_head=TwoMLPHead(channels * 7**2, box_features),
            box_predictor=FastRCNNPredictor(box_features, _CLASSES),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=sampled_boxes,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            # Return the best detection whatever its score; the caller judges that.
            score_thresh=0.0,
            nms_thresh=0.5,
            detections_per_img=1,
            mask_roi_pool=BoxPool(_LEVELS[:mask_levels], mask_pooling),
            mask_head=MaskRCNNHeads(channels, (mask_features,) * 4, 1, norm_layer=mask_norm),
            mask_predictor=MaskPredictor(mask_features, mask_features, _CLASSES),
        )
        transform = GeneralizedRCNNTransform(*image_size, *map(list, colours))
        super().__init__(backbone, rpn, heads, transform)
        for layer in list(backbone.body.children())[:frozen_layers]:
            layer.requires_grad_(False)
        for part in (rpn.head, heads.box_predictor, heads.mask_predictor):
            part.register_forward_hook(_single)
        self.builder = builder
        self.autocast: torch.dtype | None = None
        self.sizes: dict[str, Any] = {
            "image_size": list(image_size),
            "anchors": list(anchors),
            "box_features": box_features,
            "mask_features": mask_features,
            "mask_pooling": mask_pooling,
            "mask_levels": mask_levels,
            "sampled_anchors": sampled_anchors,
            "sampled_boxes": sampled_boxes,
            "proposals": list(proposals),
            "mask_loss": mask_loss,
            "frozen_layers": frozen_layers,
        }

    def encode(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None, *, depth: int
    ) -> Encoded:
        """Pass images through the first layers of the backbone, to reuse the result.

        Args:
            images, targets: see `forward`.
            depth: number of layers.

        Returns:
            The encoded images, which `forward` takes instead of both.
        """
        self.train(targets is not None)
        batch, resized = self.transform(images, targets)
        # channels_last halves the time of convolutions on CPU.
        pixels = batch.tensors.contiguous(memory_format=torch.channels_last)
        output, levels = self._pass(pixels, slice(depth))
        return Encoded(images, batch, resized, output, levels, depth)

    def common_depth(self, learning: Iterable[str]) -> int:
        """Count the first layers of the backbone that stay the same.

        Args:
            learning: names of the trained parameters.

        Returns:
            A depth for `encode`.
        """
        learning = tuple(learning)
        for depth, layer in enumerate(self.backbone.body):
            if any(name.startswith(f"backbone.body.{layer}.") for name in learning):
                return depth
        return len(self.backbone.body)

    def _pass(self, x: Tensor, part: slice) -> tuple[Tensor, dict[str, Tensor]]:
        levels = {}
        with self._autocast(x):
            for name, layer in list(self.backbone.body.items())[part]:
                x = layer(x)
                if name in self.backbone.body.return_layers:
                    levels[self.backbone.body.return_layers[name]] = x
        return x, levels

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(
            like.device.type, dtype=self.autocast, enabled=self.autocast is not None
        )

    def forward(
        self,
        images: list[Tensor] | Encoded,
        targets: list[dict[str, Tensor]] | None = None,
        *,
        boxes: list[Tensor] | None = None,
        proposals: int = 1000,
    ) -> Any:
        """Compute the losses on images with targets, or else detect the object.

        The mode of the module (`train`, `eval`) follows from the call.

        Args:
            images: RGB in 0..1, each of shape (3, H, W); or the result of `encode`.
            targets: per image, for its n objects: "boxes" (n, 4) float, (left, top, right, bottom)
                in pixels; "labels" (n,) int64, all 1; "masks" (n, H, W) uint8. n may be 0.
            boxes: per image, further boxes (any number, 4) to look into. Default: none.
            proposals: max number of boxes that the network itself proposes. Default 1000.

        Returns:
            With targets: the five losses by name, each of shape (). Without: for every image the
            best detection, with "boxes" (n, 4), "scores" (n,), "labels" (n,) and "masks"
            (n, 1, H, W), probabilities; n is 1, or 0 where there is none.
        """
        encoded = images if isinstance(images, Encoded) else self.encode(images, targets, depth=0)
        batch, targets = encoded.batch, encoded.targets
        self.train(targets is not None)
        _, levels = self._pass(encoded.output, slice(encoded.depth, None))
        with self._autocast(batch.tensors):
            features = self.backbone.fpn({**encoded.levels, **levels})
            candidates, rpn_losses = self.rpn(batch, features, targets)
        if targets is not None:
            with self._autocast(batch.tensors):
                _, losses = self.roi_heads(features, candidates, batch.image_sizes, targets)
            return {**losses, **rpn_losses}
        sizes = [(image.shape[-2], image.shape[-1]) for image in encoded.images]
        candidates = [found[:proposals] for found in candidates]
        if boxes is not None:
            candidates = [
                torch.cat([found, resize_boxes(more, size, resized)])
                for found, more, size, resized in zip(
                    candidates, boxes, sizes, batch.image_sizes, strict=True
                )
            ]
        with self._autocast(batch.tensors):
            detections, _ = self.roi_heads(features, candidates, batch.image_sizes)
        return self.transform.postprocess(detections, batch.image_sizes, sizes)


def _single(layer: nn.Module, inputs: Any, output: Any) -> Any:
    """Single precision of what a layer returns in half: boxes would be off by pixels."""
    if isinstance(output, Tensor):
        return output.float() if output.itemsize == 2 else output
    return type(output)(_single(layer, inputs, part) for part in output)
