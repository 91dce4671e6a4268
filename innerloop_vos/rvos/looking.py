"""How a network looks at a frame of a video, and what it remembers of one, as plain values."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop_vos.rvos.model.conv_lstm import State
from innerloop_vos.rvos.model.decoder import States
from innerloop_vos.rvos.model.network import RVOS, Seen
from innerloop_vos.rvos.options import RVOSOptions


def ready(network: RVOS, options: RVOSOptions, device: torch.device) -> RVOS:
    """Move a network to a device, in evaluation mode and the precision of the options."""
    network.autocast = torch.bfloat16 if options.half else None
    return network.eval().to(device)


def look(network: RVOS, frame: Tensor, short_side: int) -> Seen:
    """Look at a frame, made smaller where it is larger.

    Args:
        network: the network.
        frame: RGB, shape (3, H, W), uint8.
        short_side: most pixels of the shorter side.
    """
    size = frame.shape[-2:]
    image = frame.float()[None] / 255
    scale = short_side / min(size)
    if scale < 1:
        smaller = [round(scale * side) for side in size]
        image = F.interpolate(image, smaller, mode="bilinear", antialias=True)
    return network.see(image)


def at_size(logits: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Logits of O objects, each (1, h, w), in a frame of a size, shape (O, H, W)."""
    joined = torch.cat(list(logits))
    if joined.shape[1:] == tuple(size):
        return joined
    return F.interpolate(joined[None], tuple(size), mode="bilinear")[0]


def packed(objects: Sequence[States]) -> list[list[list[Tensor]]]:
    """The states of objects as lists of tensors, for `state_dict`."""
    return [[list(state) for state in states] for states in objects]


def unpacked(objects: list[list[list[Tensor]]], device: torch.device) -> list[States]:
    """The states that `packed` was given, moved to a device."""
    return [
        [State(*(tensor.to(device) for tensor in state)) for state in states] for states in objects
    ]
