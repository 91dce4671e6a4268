"""Joins `innerloop compare` with a suite on features of the embedded backbone."""

import torch
from torch.nn import functional as F

from innerloop.compare import Suite, add_suite
from innerloop.compare.suites.conv import Frames, conv_suite
from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.joining import join_levels
from innerloop_vos.data import synthetic_clip

STRIDE = 16
LABELS = 4
"""The targets are the mask at `LABELS` times the resolution of the features, as channels."""


def backbone_features(quick: bool) -> Suite:
    """Fit a filter that marks an object in the first frame of a clip, and judge it by the last."""
    size = (160, 272) if quick else (480, 832)
    frames, masks = synthetic_clip(length=8, size=size, objects=1)
    network = backbone("small")
    with torch.no_grad():
        levels = network(frames[[0, -1]].float() / 255)
    features = join_levels(
        [levels[name] for name in network.target_levels], (size[0] // STRIDE, size[1] // STRIDE)
    )
    coarse = F.avg_pool2d((masks[[0, -1], None] > 0).float(), STRIDE // LABELS)
    targets = F.pixel_unshuffle(coarse, LABELS)
    return conv_suite(
        "channels of the embedded backbone",
        Frames(features.double(), targets.double()),
        steps=5 if quick else 10,
        regularization=1.0,
    )


add_suite("conv-backbone", backbone_features)
