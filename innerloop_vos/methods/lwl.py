"""Builds the segmenter of `--method lwl`."""

import torch

from innerloop_vos.configuration.options import read_options
from innerloop_vos.lwl import LWLSegmenter, load_lwl, lwl_small
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.solvers import solver


def build(options: MethodOptions, weights: str | None, device: torch.device) -> LWLSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; without weights, those that ship are taken."""
    options.refuse_backbone("lwl")
    options.refuse_speed("lwl")
    network = load_lwl(weights) if weights else lwl_small("default")
    if options.solver:
        network.target_model.solver = solver(options.solver)
    # Videos that start from a mask or from a box have settings of their own.
    own = read_options(options.settings, network.preset.mask)
    box = read_options(options.settings, network.preset.box)
    return LWLSegmenter(network, own, box, device)
