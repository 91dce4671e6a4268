"""Builds the segmenter of `--method lwl`."""

import torch

from innerloop.errors import InputError
from innerloop_vos.configuration.options import read_options
from innerloop_vos.lwl import LWLSegmenter, load_lwl
from innerloop_vos.lwl.options import FROM_BOXES, LWLOptions
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.solvers import solver


def build(options: MethodOptions, weights: str | None, device: torch.device) -> LWLSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; weights are needed."""
    options.refuse_backbone("lwl")
    options.refuse_speed("lwl")
    if not weights:
        raise InputError(
            "weights: lwl needs a file of weights; 'innerloop-vos convert lwl' makes one from a "
            "released checkpoint, and 'innerloop-vos train lwl' trains one; --method lwl-lite, "
            "the default, needs none"
        )
    network = load_lwl(weights)
    if options.solver:
        network.target_model.solver = solver(options.solver)
    # Videos that start from a mask or from a box have settings of their own.
    own = read_options(options.settings, LWLOptions())
    box = read_options(options.settings, FROM_BOXES)
    return LWLSegmenter(network, own, box, device)
