"""Builds the segmenter of `--method lwl-lite`."""

import torch

from innerloop.errors import InputError
from innerloop_vos.configuration.options import read_options
from innerloop_vos.lwl_lite import SPEEDS, LWLLiteOptions, LWLLiteSegmenter, lwl_lite
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.solvers import solver


def build(options: MethodOptions, weights: str | None, device: torch.device) -> LWLLiteSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; without weights, those that ship are taken."""
    options.refuse_backbone("lwl-lite")
    network = lwl_lite(weights or "default")
    if options.solver:
        network.target_model.solver = solver(options.solver)
    own = read_options(options.settings, _preset(options.speed or "best"))
    return LWLLiteSegmenter(network, own, device)


def _preset(speed: str) -> LWLLiteOptions:
    if speed not in SPEEDS:
        raise InputError(f"speed: {speed!r} is unknown; there are {', '.join(SPEEDS)}")
    return SPEEDS[speed]
