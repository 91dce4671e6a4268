"""The recurrent decoder: ConvLSTMs from coarse to fine, over objects and over frames."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones import Backbone
from innerloop_vos.layers.refinement import resized, unit_variance
from innerloop_vos.rvos.model.conv_lstm import ConvLSTM, State

Recurrence = Literal["S", "T", "ST"]
"""Over objects (spatial), over frames (temporal), or over both."""

RECURRENCES: tuple[Recurrence, ...] = get_args(Recurrence)

_LOUD = 8.0
"""Factor of the mask, a single channel, so that it is not lost among a hundred others."""

_SHARP = 10.0
"""Factor of the logits, as the hidden states that they are made of lie between -1 and 1."""

States = list[State]
"""Of one object in one frame, coarse to fine."""


class Decoder(nn.Module):
    """Segments one object of a frame after the other.

    h_{t,i,k} = ConvLSTM_k([B2(h_{t,i,k-1}) | f_{t,k} | S_{t-1,i}], [h_{t,i-1,k} | h_{t-1,i,k}]),
    where k counts levels from the coarsest, i objects and t frames, f is what the backbone sees, S
    the object's mask in the frame before, and B2 bilinear upsampling. S is 1 on the object and -1
    elsewhere, and 0 everywhere where no mask is known: that of an object out of sight says nothing
    of where it comes back.

    A hidden state that is not there is zero. The cell's memory is the object's own of the frame
    before; where there is none, that of the object before. So a first frame, or an image, is
    segmented by the recurrence over objects alone.

    Args:
        backbone: whose levels there are.
        widths: channels of the states, one per stride of the backbone, coarse to fine; what the
            backbone sees is projected to as many.
        recurrence: "S" leaves out h_{t-1}, "T" leaves out h_{i-1}.

    Source:
        Ventura et al., RVOS: End-to-End Recurrent Network for Video Object Segmentation, CVPR 2019
        (encoder-decoder architecture), which leaves open where the memory comes from. With "S" and
        without masks it is the decoder of Salvador et al., Recurrent Neural Networks for Semantic
        Instance Segmentation, 2017, but for the branches of boxes and classes: no video here has
        classes.
    """

    def __init__(
        self, backbone: Backbone, widths: Sequence[int], recurrence: Recurrence = "ST"
    ) -> None:
        super().__init__()
        self.recurrence = recurrence
        strides = sorted({level.stride for level in backbone.levels.values()}, reverse=True)
        self.names = [
            [name for name, level in backbone.levels.items() if level.stride == stride]
            for stride in strides
        ]
        channels = [sum(backbone.levels[name].channels for name in names) for names in self.names]
        self.skips = nn.ModuleList(
            nn.Conv2d(count, width, 1) for count, width in zip(channels, widths, strict=True)
        )
        deeper = [0, *widths[:-1]]
        # Beside the deeper level: the mask, and the hidden states.
        self.cells = nn.ModuleList(
            ConvLSTM(width, below + 1 + len(recurrence) * width, width)
            for below, width in zip(deeper, widths, strict=True)
        )
        self.mask = nn.Conv2d(widths[-1], 1, 1)
        self.stop = nn.Linear(sum(widths), 1)

    def see(self, levels: Mapping[str, Tensor]) -> list[Tensor]:
        """Compute once what all objects of a frame share.

        Args:
            levels: the backbone's, of B frames.

        Returns:
            Shares of the gates, coarse to fine, each of shape (B, 4 width, h, w).
        """
        seen = []
        for names, skip, cell in zip(self.names, self.skips, self.cells, strict=True):
            level = torch.cat([unit_variance(levels[name]) for name in names], dim=1)
            seen.append(cell.get_submodule("shared")(F.relu(skip(level))))
        return seen

    def forward(
        self,
        seen: Sequence[Tensor],
        masks: Tensor | None,
        before: States | None,
        neighbour: States | None,
    ) -> tuple[Tensor, Tensor, States]:
        """Segment one object in each of B frames.

        Args:
            seen: what `see` returned.
            masks: probability of the object in the frame before, S, shape (B, 1, H, W). None: not
                known.
            before: its states in the frame before. None: it is new.
            neighbour: of the object before it in the same frame. None: it is the first.

        Returns:
            Logits of the object at the finest level, shape (B, 1, h, w), the logit of its being
            there rather than a stop, shape (B,), and its states.
        """
        spatial = neighbour if "S" in self.recurrence else None
        temporal = before if "T" in self.recurrence else None
        told = None if masks is None else _LOUD * _signs(masks)
        states: States = []
        for k, (shared, cell) in enumerate(zip(seen, self.cells, strict=True)):
            size = shared.shape[-2:]
            nothing = shared.new_zeros(len(shared), shared.shape[1] // 4, *size)
            own = [
                shared.new_zeros(len(shared), 1, *size)
                if told is None
                else F.interpolate(told, size, mode="area")
            ]
            if states:
                own.append(resized(states[-1].hidden, size))
            if "S" in self.recurrence:
                own.append(nothing if spatial is None else spatial[k].hidden)
            if "T" in self.recurrence:
                own.append(nothing if temporal is None else temporal[k].hidden)
            remembered = temporal or spatial
            memory = None if remembered is None else remembered[k].cell
            states.append(cell(shared, torch.cat(own, dim=1), memory))
        logits: Tensor = _SHARP * self.mask(states[-1].hidden)
        pooled = torch.cat([state.hidden.amax((2, 3)) for state in states], dim=1)
        scores: Tensor = self.stop(pooled)
        return logits, scores[:, 0], states


def _signs(masks: Tensor) -> Tensor:
    """1 on an object and -1 elsewhere; 0 everywhere where it is out of sight."""
    seen = masks.amax((2, 3), keepdim=True) > 0.5
    return (2 * masks - 1) * seen
