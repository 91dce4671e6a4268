"""The decoder: from target scores and backbone features to the mask, coarse to fine."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = ("layer4", "layer3", "layer2", "layer1")
"""Names of the levels, coarse to fine, in the order that the decoder visits them."""


def _resize(x: Tensor, size: Sequence[int] | torch.Size, mode: str = "bilinear") -> Tensor:
    return F.interpolate(x, tuple(size), mode=mode, align_corners=False)


class ScoreEncoder(nn.Module):
    """TSE: joins the target scores to the features of a level.

    Args:
        inputs: channels of the backbone's features.
        scores: D, channels of the target scores.
        outputs: width of the level.
    """

    def __init__(self, inputs: int, scores: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1), nn.ReLU(inplace=True), nn.Conv2d(outputs, outputs, 1)
        )
        joint = outputs + scores
        layers: list[nn.Module] = []
        for width in (joint, joint, outputs):
            layers += [nn.Conv2d(joint, width, 3, 1, 1), nn.ReLU(inplace=True)]
        self.transform = nn.Sequential(*layers)

    def forward(self, features: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoding and the reduced features, both (B, outputs, h, w)."""
        reduced = self.reduce(features)
        joint = torch.cat([reduced, _resize(scores, reduced.shape[-2:])], dim=1)
        return self.transform(joint), reduced


class Refinement(nn.Module):
    """RRB: a residual block after a 1x1 convolution, all of one width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.bblock = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        x = self.conv1x1(x)
        return F.relu(x + self.bblock(x))


class ChannelAttention(nn.Module):
    """CAB: adds the deeper level to this one, whose channels are gated by both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convreluconv = nn.Sequential(
            nn.Conv2d(2 * width, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 1)
        )

    def forward(self, shallow: Tensor, deeper: Tensor) -> Tensor:
        """Fuse (B, width, h, w) with (B, width, any, any); the result has the former's shape."""
        pooled = [F.adaptive_avg_pool2d(x, 1) for x in (shallow, deeper)]
        gate: Tensor = self.convreluconv(torch.cat(pooled, dim=1)).sigmoid()
        return shallow * gate + _resize(deeper, shallow.shape[-2:])


class Head(nn.Module):
    """Enlarges the finest level to the image and reduces it to one logit a pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width // 2, 3, 1, 1)
        self.conv2 = nn.Conv2d(width // 2, 1, 3, 1, 1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Map (B, width, h, w) to logits (B, H, W), where size is (H, W)."""
        doubled = _resize(x, [2 * side for side in x.shape[-2:]], "bicubic")
        logits: Tensor = self.conv2(_resize(F.relu(self.conv1(doubled)), size, "bicubic"))
        return logits.squeeze(1)


class Decoder(nn.Module):
    """Segments the target that the scores point out.

    Args:
        inputs: channels of the backbone's features, coarse to fine.
        widths: of the decoder's levels, coarse to fine.
        scores: D, channels of the target scores.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.4 and appendix B.2; the
        architecture is from Robinson et al., Learning Fast and Robust Target Models for Video
        Object Segmentation, CVPR 2020.
    """

    def __init__(self, inputs: Sequence[int], widths: Sequence[int], scores: int) -> None:
        super().__init__()
        width = dict(zip(LEVELS, widths, strict=True))
        self.TSE = nn.ModuleDict(
            {
                level: ScoreEncoder(channels, scores, width[level])
                for level, channels in zip(LEVELS, inputs, strict=True)
            }
        )
        self.RRB1 = nn.ModuleDict({level: Refinement(width[level]) for level in LEVELS})
        self.CAB = nn.ModuleDict({level: ChannelAttention(width[level]) for level in LEVELS})
        self.RRB2 = nn.ModuleDict({level: Refinement(width[level]) for level in LEVELS})
        self.proj = nn.ModuleDict(
            {
                level: nn.Sequential(nn.Conv2d(width[deeper], width[level], 1), nn.ReLU())
                for deeper, level in pairwise(LEVELS)
            }
        )
        self.project = Head(widths[-1])

    def forward(
        self, scores: Tensor, features: Mapping[str, Tensor], size: Sequence[int]
    ) -> Tensor:
        """Segment images.

        Args:
            scores: target scores, shape (B, D, h, w).
            features: the backbone's, by `LEVELS`, each of shape (B, inputs, any, any).
            size: H and W, of the images.

        Returns:
            Logits of the target, shape (B, H, W).
        """
        x: Tensor | None = None
        for level in LEVELS:
            # channels_last is faster on CPU for so few channels.
            there = features[level].contiguous(memory_format=torch.channels_last)
            encoded, reduced = self.TSE[level](there, scores)
            # The coarsest level is fused with its own mean.
            deeper = F.adaptive_avg_pool2d(reduced, 1) if x is None else self.proj[level](x)
            x = self.RRB2[level](self.CAB[level](self.RRB1[level](encoded), deeper))
        logits: Tensor = self.project(x, size)
        return logits
