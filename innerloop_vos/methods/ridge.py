"""Builds the segmenter of `--method ridge`."""

import torch

from innerloop.errors import InputError
from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.solvers import solver
from innerloop_vos.ridge import RidgeOptions, RidgeSegmenter


def build(options: MethodOptions, weights: str | None, device: torch.device) -> RidgeSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; the weights are those of the backbone."""
    options.refuse_speed("ridge")
    if options.settings:
        raise InputError(f"option: {options.settings[0]!r}; ridge has no further settings")
    own = RidgeOptions(solver=solver(options.solver or "exact"))
    network = backbone(options.backbone or "efficientnet_lite0", weights or "default")
    fold_norms(network)  # a quarter faster
    return RidgeSegmenter(network, own, device)
