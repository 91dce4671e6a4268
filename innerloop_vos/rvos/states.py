"""What is remembered of objects, as plain values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop_vos.rvos.model.conv_lstm import State
from innerloop_vos.rvos.model.decoder import States


def packed(objects: Sequence[States]) -> list[list[list[Tensor]]]:
    """The states of objects as lists of tensors, for `state_dict`."""
    return [[list(state) for state in states] for states in objects]


def unpacked(objects: list[list[list[Tensor]]], device: torch.device) -> list[States]:
    """The states that `packed` was given, moved to a device."""
    return [
        [State(*(tensor.to(device) for tensor in state)) for state in states] for states in objects
    ]
