"""The convolutional LSTM cell."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

_REMEMBER = 1.0
"""Start of the forget gate's bias: at first, most of what was remembered stays."""


class State(NamedTuple):
    """What a cell hands on.

    Attributes:
        hidden: h, shape (B, hidden, H, W).
        cell: c, of the same shape.
    """

    hidden: Tensor
    cell: Tensor


class ConvLSTM(nn.Module):
    """A convolutional LSTM cell whose input has a part that several objects share.

    A convolution over channels side by side is a sum of convolutions over parts of them, so the
    share of the part that is the same for all objects of a frame is computed once, by `shared`.

    Args:
        shared: channels of the input that objects share.
        own: channels of the rest of the input, and of the hidden states side by side.
        hidden: channels of the state.

    Source:
        Shi et al., Convolutional LSTM Network, NIPS 2015, eq. 3, without peepholes; 3x3 kernels as
        in Salvador et al., Recurrent Neural Networks for Semantic Instance Segmentation, 2017.
    """

    def __init__(self, shared: int, own: int, hidden: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(shared, 4 * hidden, 3, padding=1)
        self.own = nn.Conv2d(own, 4 * hidden, 3, padding=1, bias=False)
        with torch.no_grad():
            self.shared.get_parameter("bias")[hidden : 2 * hidden] += _REMEMBER

    def forward(self, shared: Tensor, own: Tensor, cell: Tensor | None) -> State:
        """Take one step.

        Args:
            shared: what the module `shared` made of the input that objects share, shape
                (B, 4 hidden, H, W).
            own: the rest of the input, and the hidden states, shape (B, own, H, W).
            cell: what was remembered, shape (B, hidden, H, W). None: nothing.

        Returns:
            The new state, in the precision of the cell; without one, float32 where the
            convolution's is lower.
        """
        gates = shared + self.own(own.contiguous(memory_format=torch.channels_last))
        if gates.dtype in (torch.bfloat16, torch.float16):
            gates = gates.float()  # sums over a whole video need its digits
        enter, keep, leave, new = gates.chunk(4, dim=1)
        fresh = enter.sigmoid() * new.tanh()
        cell = fresh if cell is None else keep.sigmoid() * cell + fresh
        return State(leave.sigmoid() * cell.tanh(), cell)
