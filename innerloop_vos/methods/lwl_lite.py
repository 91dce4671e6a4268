"""Builds the segmenter of `--method lwl-lite`."""

import torch

from innerloop_vos.configuration.options import read_options
from innerloop_vos.lwl_lite import LWLLiteOptions, LWLLiteSegmenter, lwl_lite
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.solvers import solver


def build(options: MethodOptions, weights: str | None, device: torch.device) -> LWLLiteSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; without weights, those that ship are taken."""
    options.refuse_backbone("lwl-lite")
    network = lwl_lite(weights or "default")
    if options.solver:
        network.target_model.solver = solver(options.solver)
    own = read_options(options.settings, LWLLiteOptions())
    return LWLLiteSegmenter(network, own, device)
