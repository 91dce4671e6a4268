"""Segmentation of video by LWL-lite."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.layers.resizing import averaged, enlarged, shrunk
from innerloop_vos.lwl_lite.memory import TargetMemory
from innerloop_vos.lwl_lite.model.network import LWLLite, Seen
from innerloop_vos.lwl_lite.options import LWLLiteOptions
from innerloop_vos.segmenter import Observation, Segmenter, mask_of_box

BOX_WINDOW = (256, 448)
"""Height and width of what is looked at to find the mask in a box, in pixels."""


class _Encoded(NamedTuple):
    seen: Seen
    size: tuple[int, int]  # of the frame in pixels, whatever it was looked at in


@dataclass(frozen=True)
class _Found(Observation):
    seen: Seen = field(kw_only=True)


class LWLLiteSegmenter(Segmenter):
    """Learning What to Learn with a target model in closed form.

    A frame is looked at once for all objects. What is learned of an object is kept as sums, of
    which the best filters follow exactly.

    Args:
        network: the networks; moved to `device`.
        options: settings. Default: `LWLLiteOptions()`.
        device: where the work is done. Default: the CPU.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, section 3.5.
    """

    def __init__(
        self,
        network: LWLLite,
        options: LWLLiteOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.network = network.eval().to(self.device)
        self.options = options or LWLLiteOptions()
        self.network.autocast = torch.bfloat16 if self.options.half else None
        self.reset()

    def reset(self) -> None:
        self.memory = TargetMemory(self.options.learning_rate, self.options.first_weight)
        self.filters = torch.empty(0, device=self.device)
        self.anchors = torch.empty(0, device=self.device)

    def learned(self) -> dict[str, Any]:
        return {
            "memory": self.memory.state_dict(),
            "filters": self.filters,
            "anchors": self.anchors,
        }

    def relearn(self, state: dict[str, Any]) -> None:
        self.memory.load_state_dict(state["memory"], self.device)
        self.filters = state["filters"].to(self.device)
        self.anchors = state["anchors"].to(self.device)

    def encode(self, frame: Tensor) -> _Encoded:
        image = shrunk(frame, self.options.short_side)
        return _Encoded(self.network.see(image), (frame.shape[1], frame.shape[2]))

    def add(self, encoded: _Encoded, masks: Tensor) -> None:
        self.memory.start(self._learn(encoded.seen, masks.float()))
        self.filters = self.network.target_model.fit(self.memory.statistics())
        self.anchors = torch.cat([self.anchors, self.filters[len(self.anchors) :, :1]])

    def trust(self, encoded: _Encoded, masks: Tensor) -> None:
        self.memory.trust(self._learn(encoded.seen, masks.float()))
        self.filters = self.network.target_model.fit(self.memory.statistics())
        self.anchors = self.filters[:, :1]

    def keep(self, places: list[int]) -> None:
        self.memory.keep(places)
        self.filters, self.anchors = self.filters[places], self.anchors[places]

    def track(self, encoded: _Encoded) -> _Found:
        before = averaged(self.probabilities[1:], encoded.seen.images.shape[-2:])
        logits = self.network.segment(self.filters, self.anchors, encoded.seen, before)
        return _Found(enlarged(logits, encoded.size), seen=encoded.seen)

    def update(self, observation: _Found, merged: Tensor) -> None:
        visible = (merged > 0.5).sum((1, 2)) >= self.options.min_area
        if visible.any():
            self.memory.add(self._learn(observation.seen, merged), of=visible)
            self.filters = self.network.target_model.fit(self.memory.statistics())

    def _learn(self, seen: Seen, masks: Tensor) -> il.Statistics:
        return self.network.learn(seen, averaged(masks, seen.images.shape[-2:]))

    @torch.no_grad()
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        inside = mask_of_box(frame, box).to(self.device)
        rows, columns = _around(box, (frame.shape[1], frame.shape[2]), self.options.box_factor)
        image = frame.to(self.device)[:, rows, columns].float()[None] / 255
        there = inside[rows, columns]
        scale = min(side / n for side, n in zip(BOX_WINDOW, there.shape, strict=True))
        size = [max(round(scale * n), 32) for n in there.shape]
        image = F.interpolate(image, size, mode="bilinear", antialias=True)
        smaller = F.interpolate(there[None, None].float(), size, mode="area")[0]
        logits = self.network.segment_box(self.network.see(image), smaller)
        logits = F.interpolate(logits[None], tuple(there.shape), mode="bilinear")[0, 0]
        mask = torch.zeros_like(inside)
        mask[rows, columns] = (logits > 0) & (there > 0)
        return (mask if mask.any() else inside).cpu()


def _around(
    box: tuple[int, int, int, int], size: tuple[int, int], factor: float
) -> tuple[slice, slice]:
    """Rows and columns of a window around a box, in which it can be told from what it is not."""
    x, y, width, height = box
    # The larger of both sides counts, for a thin object too needs something around it.
    aspect = BOX_WINDOW[1] / BOX_WINDOW[0]
    side = factor * max(height, width / aspect)
    parts = []
    for middle, wanted, length in (
        (y + height / 2, side, size[0]),
        (x + width / 2, side * aspect, size[1]),
    ):
        count = min(max(round(wanted), 1), length)
        start = min(max(round(middle - wanted / 2), 0), length - count)
        parts.append(slice(start, start + count))
    return parts[0], parts[1]
