"""The LWL network as a whole."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.backbones import Backbone
from innerloop_vos.backbones.resnet_files import Style
from innerloop_vos.lwl.model.decoder import LEVELS, Decoder
from innerloop_vos.lwl.model.label_encoder import BoxEncoder, LabelEncoder
from innerloop_vos.lwl.model.mask_labels import MaskLabels
from innerloop_vos.lwl.model.target_model import TargetModel

Labels = Literal["learned", "mask"]
"""What the target model is told to predict: a learned encoding of the mask, or the mask."""

LabelWeights = Literal["learned", "one"]
"""What the errors of its predictions weigh: what a weight predictor learned, or all the same."""

_TARGET_LEVEL = LEVELS[1]
"""The level that feeds the target model, at stride 16."""


class LWL(nn.Module):
    """The network of Learning What to Learn, without the state of a video.

    The names of the parameters are those of the released checkpoints. Batch normalisation always
    uses its running statistics, in training too.

    Args:
        backbone: feature extractor with the levels of a ResNet, named as in `LEVELS`.
        features: C, channels of the target features. Default 512.
        outputs: D, channels of the labels, weights and target scores; 1 with mask labels. Default
            16.
        labels: E, what the target model is told to predict: an encoding of the mask that is
            "learned", or the "mask" itself. Default "learned".
        label_weights: W, "learned", or "one" everywhere; "one" with mask labels, as the weight
            predictor is part of the label encoder. Default "learned".
        label_widths: of the label encoder. Default (16, 32, 64).
        decoder_widths: of the decoder, coarse to fine. Default (256, 128, 128, 64).
        box: whether it has a box encoder. Default False.

    Attributes:
        box_label_encoder: finds the mask in a box; None without `box`.
        builder: the name of the function that built it. Default "lwl_resnet50".
        style: of the backbone, as its builder names it. Default "caffe".
        autocast: precision of the backbone, the projection and the decoder, `torch.bfloat16` or
            `torch.float16`; None for that of the weights, which the solver always has.

    Raises:
        InputError: labels, their weights and their number do not go together.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020; Table 1 and
        Fig. 7 for other labels, weights and outputs than the default.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        features: int = 512,
        outputs: int = 16,
        labels: Labels = "learned",
        label_weights: LabelWeights = "learned",
        label_widths: Sequence[int] = (16, 32, 64),
        decoder_widths: Sequence[int] = (256, 128, 128, 64),
        box: bool = False,
    ) -> None:
        super().__init__()
        _check_labels(labels, label_weights, outputs)
        self._sizes: dict[str, Any] = {
            "features": features,
            "outputs": outputs,
            "labels": labels,
            "label_weights": label_weights,
            "label_widths": list(label_widths),
            "decoder_widths": list(decoder_widths),
        }
        channels = {name: backbone.levels[name].channels for name in LEVELS}
        self.feature_extractor = backbone
        self.target_model = TargetModel(channels[_TARGET_LEVEL], features, outputs)
        self.label_encoder: LabelEncoder | MaskLabels = (
            MaskLabels()
            if labels == "mask"
            else LabelEncoder(label_widths, outputs, weighted=label_weights == "learned")
        )
        self.decoder = Decoder([*channels.values()], decoder_widths, outputs)
        self.box_label_encoder: BoxEncoder | None = None
        if box:
            self.add_box_encoder()
        self.autocast: torch.dtype | None = None
        self.builder = "lwl_resnet50"
        self.style: Style = "caffe"

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments beside the backbone, and its style where that is not the default."""
        style = {} if self.style == "caffe" else {"backbone": self.style}
        return {**self._sizes, "box": self.box_label_encoder is not None, **style}

    def add_box_encoder(self) -> None:
        """Give the network a new box encoder."""
        self.box_label_encoder = BoxEncoder(self._sizes["features"], self._sizes["outputs"])

    def train(self, mode: bool = True) -> "LWL":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def extract(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the features of images.

        Args:
            images: RGB in 0..1, shape (B, 3, H, W).

        Returns:
            What the decoder sees, by `LEVELS`, and the target features (B, C, h, w).
        """
        with self._autocast(images):
            levels: dict[str, Tensor] = self.feature_extractor(images)
            return levels, self.target_model.project(levels[_TARGET_LEVEL])

    def decode(self, scores: Tensor, levels: Mapping[str, Tensor], size: Sequence[int]) -> Tensor:
        """Segment images by target scores; as `Decoder.forward`, in the precision of the scores."""
        with self._autocast(scores):
            logits: Tensor = self.decoder(scores, levels, size)
        return logits.to(scores)

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(
            like.device.type, dtype=self.autocast, enabled=self.autocast is not None
        )

    def forward(
        self,
        train_images: Tensor,
        train_masks: Tensor,
        test_images: Tensor,
        *,
        steps: int = 5,
        update_steps: int = 0,
        adjoint: il.Adjoint | None = None,
    ) -> Tensor:
        """Learn the objects of S sequences from some frames, and segment others in turn.

        Args:
            train_images: RGB in 0..1, shape (S, N, 3, H, W).
            train_masks: of the one object a sequence, 0 to 1, shape (S, N, H, W).
            test_images: RGB in 0..1, shape (S, T, 3, H, W).
            steps: of the inner solver on the train images. Default 5.
            update_steps: of the inner solver after each test image, from whose predicted mask the
                target model learns too; through that mask goes no gradient. Default 0: the target
                model stays that of the train images.
            adjoint: how gradients come back through it. Default: `il.Unroll()`.

        Returns:
            Logits, shape (S, T, H, W).
        """
        _, memory = self.extract(train_images.flatten(0, 1))
        memory = memory.reshape(*train_images.shape[:2], *memory.shape[1:])
        labels, weights = self.label_encoder(train_masks)
        filters = self.target_model.fit(memory, labels, weights, steps=steps, adjoint=adjoint)
        levels, features = self.extract(test_images.flatten(0, 1))
        shape = test_images.shape[:2]
        features = features.reshape(*shape, *features.shape[1:])
        levels = {name: level.reshape(*shape, *level.shape[1:]) for name, level in levels.items()}
        logits: list[Tensor] = []
        for index in range(shape[1]):
            if index and update_steps:
                found = self.label_encoder(logits[-1].detach().sigmoid()[:, None])
                memory = torch.cat([memory, features[:, index - 1 : index]], dim=1)
                labels, weights = (
                    torch.cat(parts, dim=1) for parts in zip((labels, weights), found, strict=True)
                )
                filters = self.target_model.fit(
                    memory, labels, weights, filters, steps=update_steps, adjoint=adjoint
                )
            scores = self.target_model.score(filters, features[:, index : index + 1])[:, 0]
            frame = {name: level[:, index] for name, level in levels.items()}
            logits.append(self.decode(scores, frame, test_images.shape[-2:]))
        return torch.stack(logits, dim=1)

    def segment_box(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Segment the objects in boxes.

        Args:
            images: RGB in 0..1, shape (B, 3, H, W).
            boxes: 1 inside the box and 0 outside, shape (B, H, W).

        Returns:
            Logits, shape (B, H, W).

        Raises:
            ValueError: the network has no box encoder.
        """
        if self.box_label_encoder is None:
            raise ValueError("segment_box: the network has no box encoder; see add_box_encoder")
        levels, features = self.extract(images)
        return self.decode(self.box_label_encoder(features, boxes), levels, images.shape[-2:])


def _check_labels(labels: str, label_weights: str, outputs: int) -> None:
    for name, value, known in (
        ("labels", labels, get_args(Labels)),
        ("label_weights", label_weights, get_args(LabelWeights)),
    ):
        if value not in known:
            raise InputError(f"{name}: {value}, should be {' or '.join(known)}")
    if labels == "mask" and outputs != 1:
        raise InputError(f"outputs: {outputs}, should be 1 with mask labels")
    if labels == "mask" and label_weights != "one":
        raise InputError(f"label_weights: {label_weights}, should be one with mask labels")
