"""Builds the segmenter of `--method lwl-lite`."""

import torch

from innerloop_vos.configuration.options import read_options
from innerloop_vos.lwl_lite.builders import lwl_lite
from innerloop_vos.lwl_lite.options import LWLLiteOptions
from innerloop_vos.lwl_lite.segmenter import LWLLiteSegmenter
from innerloop_vos.lwl_lite.weights import load_lwl_lite
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.solvers import solver


def build(options: MethodOptions, weights: str | None, device: torch.device) -> LWLLiteSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; without weights, those that ship are taken."""
    options.refuse_backbone("lwl-lite")
    network = load_lwl_lite(weights) if weights else lwl_lite("default")
    if options.solver:
        network.target_model.solver = solver(options.solver)
    own = read_options(options.settings, LWLLiteOptions())
    return LWLLiteSegmenter(network, own, device)
