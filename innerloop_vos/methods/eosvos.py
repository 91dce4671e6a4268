"""Builds the segmenter of `--method e-osvos`."""

from dataclasses import replace

import torch

from innerloop.errors import InputError
from innerloop_vos.configuration.options import MOST, read_options
from innerloop_vos.eosvos import EOSVOSOptions, EOSVOSSegmenter, load_eosvos
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.precision import fast_bfloat16


def build(options: MethodOptions, weights: str | None, device: torch.device) -> EOSVOSSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; without weights, those that ship are taken."""
    options.refuse_backbone("e-osvos")
    options.refuse_speed("e-osvos")
    options.refuse_solver("e-osvos", "gradient descent")
    network, rates = load_eosvos(weights or "default")
    if not 0 <= options.steps <= MOST:
        least = "at least 0" if options.steps < 0 else f"at most {MOST}"
        raise InputError(f"steps: {str(options.steps)[:50]}, should be {least}")
    own = EOSVOSOptions(steps=options.steps, half=fast_bfloat16(device))
    if not options.online:
        own = replace(own, online_interval=None)
    return EOSVOSSegmenter(network, rates, read_options(options.settings, own), device)
