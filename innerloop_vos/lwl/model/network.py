"""The LWL network as a whole."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.backbones import Backbone
from innerloop_vos.backbones.joining import join_levels
from innerloop_vos.lwl.model.colours import ColourFeatures
from innerloop_vos.lwl.model.decoder import LEVELS, Decoder
from innerloop_vos.lwl.model.label_encoder import BoxEncoder, LabelEncoder
from innerloop_vos.lwl.model.target_model import TargetModel
from innerloop_vos.lwl.presets import LIGHT, RELEASED


class LWL(nn.Module):
    """The networks of Learning What to Learn, without the state of a video.

    The names of the parameters are those of the released checkpoints. Batch normalisation always
    uses its running statistics, in training too.

    Args:
        backbone: feature extractor of four levels.
        stride: image pixels per pixel of the target model. 16: the backbone's second coarsest level
            feeds it, as in the released system. 8: its `target_levels` do, joined at that stride;
            all its levels then have unit variance per pixel. Default 16.
        features: C, channels of the target features. Default: 512 at stride 16, as many as are
            joined at stride 8.
        outputs: D, channels of the labels, weights and target scores. Default 16.
        label_widths: of the label encoder. Default (16, 32, 64).
        decoder_widths: of the decoder, coarse to fine. Default (256, 128, 128, 64).
        mask_label: whether the target model's first score predicts the mask itself, and the decoder
            corrects it, seeing the image alone, to which it overfits less on few clips than to the
            backbone's features. Not so in the released system, whose weights fit without. Default
            False.
        colours: number of colour features, even, that the target model sees beside those of the
            backbone, at stride 8. The released system has none. Default 0.

    Attributes:
        preset: settings of videos that go with it.
        box_label_encoder: finds the mask in a box; None without `add_box_encoder`.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        stride: int = 16,
        features: int | None = None,
        outputs: int = 16,
        label_widths: Sequence[int] = (16, 32, 64),
        decoder_widths: Sequence[int] = (256, 128, 128, 64),
        mask_label: bool = False,
        colours: int = 0,
    ) -> None:
        super().__init__()
        self._levels = dict(zip(reversed(backbone.levels), LEVELS, strict=True))
        channels = [backbone.levels[name].channels for name in self._levels]
        if colours < 0 or colours % 2 or (colours and stride != 8):
            raise ValueError(f"colours: {colours}, should be 0, or positive and even at stride 8")
        self.joined = stride == 8
        self.preset = LIGHT if self.joined else RELEASED
        inputs = channels[1]
        if self.joined:
            inputs = 1 + sum(backbone.levels[name].channels for name in backbone.target_levels)
        features = features or (inputs if self.joined else 512)
        self._sizes: dict[str, Any] = {
            "stride": stride,
            "features": features,
            "outputs": outputs,
            "label_widths": list(label_widths),
            "decoder_widths": list(decoder_widths),
            "mask_label": mask_label,
            "colours": colours,
        }
        self.feature_extractor = backbone
        solver = il.ConjugateGradient() if self.joined else None
        self.target_model = TargetModel(
            inputs, features, outputs, joined=self.joined, solver=solver, colours=colours
        )
        self.colours = ColourFeatures(colours) if colours else None
        self.label_encoder = LabelEncoder(label_widths, outputs, mask_label, stride)
        if mask_label:
            channels = [3] * len(channels)
        self.decoder = Decoder(channels, decoder_widths, outputs, mask_label)
        self.box_label_encoder: BoxEncoder | None = None

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments that say how large the network is, and whether it has a box encoder."""
        return {**self._sizes, "box": self.box_label_encoder is not None}

    def add_box_encoder(self) -> None:
        """Give the network a new box encoder."""
        sizes = self._sizes
        self.box_label_encoder = BoxEncoder(sizes["features"], outputs=sizes["outputs"])

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
            What the decoder sees by `LEVELS`, and the target features (B, C + colours, h, w).
        """
        found = self.feature_extractor(images)
        levels = {ours: found[name] for name, ours in self._levels.items()}
        if self.joined:
            size = (-(-images.shape[-2] // 8), -(-images.shape[-1] // 8))
            chosen = [found[name] for name in self.feature_extractor.target_levels]
            colours = None if self.colours is None else self.colours(images, size)
            features = self.target_model.project(join_levels(chosen, size), colours)
            levels = {name: _unit_variance(level) for name, level in levels.items()}
        else:
            features = self.target_model.project(levels[LEVELS[1]])
        if self.decoder.corrects:
            levels = self._image_levels(images)
        return levels, features

    def seen_by_decoder(self, images: Tensor) -> dict[str, Tensor]:
        """Compute what the decoder sees of images besides the scores.

        Args:
            images: RGB in 0..1, shape (B, 3, H, W).

        Returns:
            As the first of `extract`.
        """
        return self._image_levels(images) if self.decoder.corrects else self.extract(images)[0]

    def _image_levels(self, images: Tensor) -> dict[str, Tensor]:
        """Images at the strides of the backbone's levels."""
        levels = {}
        for name, ours in self._levels.items():
            stride = self.feature_extractor.levels[name].stride
            size = [-(-side // stride) for side in images.shape[-2:]]
            levels[ours] = F.interpolate(images - 0.5, size, mode="area")
        return levels

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
            logits.append(self.decoder(scores, frame, test_images[:, index]))
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
        # What an object in a box is does not hang on its colours.
        projected = features[:, : self.sizes["features"]]
        logits: Tensor = self.decoder(self.box_label_encoder(projected, boxes), levels, images)
        return logits


def _unit_variance(level: Tensor) -> Tensor:
    return F.normalize(level) * math.sqrt(level.shape[1])
