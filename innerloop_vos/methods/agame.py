"""Builds the segmenter of `--method a-game`."""

import torch

from innerloop_vos.agame import AGAMEOptions, AGAMESegmenter, agame
from innerloop_vos.configuration.options import read_options
from innerloop_vos.methods.interface import MethodOptions


def build(options: MethodOptions, weights: str | None, device: torch.device) -> AGAMESegmenter:
    """See `innerloop_vos.methods.interface.Builder`; without weights, those that ship are taken."""
    options.refuse_backbone("a-game")
    options.refuse_speed("a-game")
    options.refuse_solver("a-game", "maximum likelihood")
    network = agame(weights or "default")
    return AGAMESegmenter(network, read_options(options.settings, AGAMEOptions()), device)
