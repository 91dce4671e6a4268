"""Builds the segmenters of RVOS: of `--method rvos`, and the one that finds objects itself."""

import torch

from innerloop_vos.configuration.options import read_options
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.rvos import (
    RVOS,
    RVOSOptions,
    RVOSSegmenter,
    RVOSZeroShotSegmenter,
    ZeroShotOptions,
    rvos,
)


def build(options: MethodOptions, weights: str | None, device: torch.device) -> RVOSSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; without weights, those that ship are taken."""
    network = _network(options, weights)
    return RVOSSegmenter(network, read_options(options.settings, RVOSOptions()), device)


def build_zero_shot(
    options: MethodOptions, weights: str | None, device: torch.device
) -> RVOSZeroShotSegmenter:
    """As `build`, for objects that nobody points out."""
    network = _network(options, weights)
    return RVOSZeroShotSegmenter(network, read_options(options.settings, ZeroShotOptions()), device)


def _network(options: MethodOptions, weights: str | None) -> RVOS:
    options.refuse_backbone("rvos")
    options.refuse_speed("rvos")
    options.refuse_solver("rvos", "none: it learns nothing while it segments")
    return rvos(weights or "default")
