"""Builds the segmenter of `--method cosnet`."""

import torch

from innerloop.errors import InputError
from innerloop_vos.configuration.options import read_options
from innerloop_vos.cosnet import COSNetOptions, COSNetSegmenter, cosnet
from innerloop_vos.methods.interface import MethodOptions


def build(options: MethodOptions, weights: str | None, device: torch.device) -> COSNetSegmenter:
    """See `innerloop_vos.methods.interface.Builder`; without weights, those that ship are taken."""
    options.refuse_backbone("cosnet")
    options.refuse_speed("cosnet")
    if options.solver:
        raise InputError(f"solver: {options.solver!r}; cosnet has no inner solver")
    own = read_options(options.settings, COSNetOptions())
    return COSNetSegmenter(cosnet(weights or "default"), own, device)
