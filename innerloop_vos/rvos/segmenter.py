"""Segmentation of objects whose masks are given, by RVOS."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop_vos.layers.resizing import averaged, enlarged, shrunk
from innerloop_vos.rvos.model.decoder import States
from innerloop_vos.rvos.model.network import RVOS, Seen
from innerloop_vos.rvos.options import RVOSOptions
from innerloop_vos.rvos.states import packed, unpacked
from innerloop_vos.segmenter import Observation, Segmenter, mask_of_box


class _Encoded(NamedTuple):
    seen: Seen
    size: tuple[int, int]  # of the frame in pixels, whatever it was looked at in


@dataclass(frozen=True)
class _Found(Observation):
    states: list[States] = field(kw_only=True)


class RVOSSegmenter(Segmenter):
    """RVOS for one-shot segmentation.

    An object is told what it was in the frame before, by its mask and by its states, and what the
    objects before it are in this frame. What is kept of an object has the same size in every frame.

    Args:
        network: the network; moved to `device`.
        options: settings. Default: `RVOSOptions()`.
        device: where the work is done. Default: the CPU.

    Source:
        Ventura et al., RVOS: End-to-End Recurrent Network for Video Object Segmentation, CVPR 2019.
    """

    def __init__(
        self,
        network: RVOS,
        options: RVOSOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.network = network.eval().to(self.device)
        self.options = options or RVOSOptions()
        self.network.autocast = torch.bfloat16 if self.options.half else None
        self.reset()

    def reset(self) -> None:
        self.states: list[States] = []

    def learned(self) -> list[Any]:
        return packed(self.states)

    def relearn(self, state: list[Any]) -> None:
        self.states = unpacked(state, self.device)

    def encode(self, frame: Tensor) -> _Encoded:
        image = shrunk(frame, self.options.short_side)
        return _Encoded(self.network.see(image), (frame.shape[1], frame.shape[2]))

    def add(self, encoded: _Encoded, masks: Tensor) -> None:
        self._tell(encoded, masks, [None] * len(masks))

    def trust(self, encoded: _Encoded, masks: Tensor) -> None:
        states, self.states = self.states, []
        pairs = zip(masks, states, strict=True)
        # An object out of sight is told the same as where `track` finds nothing of it.
        self._tell(encoded, masks, [None if mask.any() else own for mask, own in pairs])

    def _tell(self, encoded: _Encoded, masks: Tensor, before: list[States | None]) -> None:
        """Append the states of objects with their masks, and states before, if they have any."""
        for mask, own in zip(averaged(masks.float(), encoded.seen.size), before, strict=True):
            last = self.states[-1] if self.states else None
            self.states.append(self.network.segment(encoded.seen, mask[None], own, last).states)

    def keep(self, places: list[int]) -> None:
        self.states = [self.states[place] for place in places]

    def track(self, encoded: _Encoded) -> _Found:
        masks = averaged(self.probabilities[1:], encoded.seen.size)
        logits: list[Tensor] = []
        states: list[States] = []
        for mask, before in zip(masks, self.states, strict=True):
            last = states[-1] if states else None
            found = self.network.segment(encoded.seen, mask[None], before, last)
            logits.append(found.logits)
            states.append(found.states)
        return _Found(enlarged(torch.cat(logits), encoded.size), states=states)

    def update(self, observation: _Found, merged: Tensor) -> None:
        self.states = observation.states

    @torch.no_grad()
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        """Find the mask of the object in a box; see `Segmenter.mask_from_box`.

        The filled box takes the place of the mask of the frame before, and the network segments
        the frame once, as it was trained to do. The mask does not leave the box; where it would be
        empty, it is the box.
        """
        inside = mask_of_box(frame, box).to(self.device)
        encoded = self.encode(frame.to(self.device))
        there = averaged(inside[None].float(), encoded.seen.size)
        found = self.network.segment(encoded.seen, there)
        mask = ((enlarged(found.logits, encoded.size)[0] > 0) & (inside > 0)).to(inside)
        return (mask if mask.any() else inside).cpu()
