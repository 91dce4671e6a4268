"""Segmentation of video by A-GAME."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop_vos.agame.model.appearance import Gaussians
from innerloop_vos.agame.model.network import AGAME, Seen
from innerloop_vos.agame.options import AGAMEOptions
from innerloop_vos.layers.resizing import averaged, enlarged, shrunk
from innerloop_vos.segmenter import Observation, Segmenter, mask_of_box

_BOX_ROUNDS = 3


class _Encoded(NamedTuple):
    seen: Seen
    size: tuple[int, int]  # of the frame in pixels, whatever it was looked at in


@dataclass(frozen=True)
class _Found(Observation):
    seen: Seen = field(kw_only=True)


class AGAMESegmenter(Segmenter):
    """Tracks objects by a generative model of their appearance and the mask of the frame before.

    A frame is looked at once for all objects. Of each object, the Gaussians are kept, and those of
    the frames whose masks were given, which a correction starts from. With several objects, the
    merged masks take the place of each object's own in what the next frame knows.

    Args:
        network: the networks; moved to `device`.
        options: settings. Default: `AGAMEOptions()`.
        device: where the work is done. Default: the CPU.

    Source:
        Johnander et al., A Generative Appearance Model for End-to-end Video Object Segmentation,
        CVPR 2019.
    """

    def __init__(
        self,
        network: AGAME,
        options: AGAMEOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.network = network.eval().to(self.device)
        self.options = options or AGAMEOptions()
        self.network.autocast = torch.bfloat16 if self.options.half else None
        self.reset()

    def reset(self) -> None:
        self.gaussians: Gaussians = {}
        self._given: Gaussians = {}
        self._count = torch.empty(0, device=self.device)  # of the frames given, per object

    def learned(self) -> dict[str, Any]:
        return {"gaussians": self.gaussians, "given": self._given, "count": self._count}

    def relearn(self, state: dict[str, Any]) -> None:
        if "count" not in state:  # of before there were corrections
            state = state | {"given": state["gaussians"], "count": torch.ones(len(self.ids))}
        self.gaussians, self._given = (
            {name: part.to(self.device) for name, part in state[which].items()}
            for which in ("gaussians", "given")
        )
        self._count = state["count"].to(self.device)

    def encode(self, frame: Tensor) -> _Encoded:
        image = shrunk(frame, self.options.short_side)
        return _Encoded(self.network.see(image), (frame.shape[1], frame.shape[2]))

    def add(self, encoded: _Encoded, masks: Tensor) -> None:
        seen = encoded.seen
        new = self.network.start(seen, self._masks(seen, masks.float()))
        self.gaussians, self._given = (
            {name: torch.cat([old[name], part]) if old else part for name, part in new.items()}
            for old in (self.gaussians, self._given)
        )
        self._count = torch.cat([self._count, torch.ones(len(masks), device=self.device)])

    def trust(self, encoded: _Encoded, masks: Tensor) -> None:
        seen = encoded.seen
        self._count = self._count + 1  # all frames that were given count alike
        masks = self._masks(seen, masks.float())
        self._given = self.network.update(self._given, seen, masks, 1 / self._count)
        self.gaussians = self._given

    def keep(self, places: list[int]) -> None:
        self.gaussians, self._given = (
            {name: part[places] for name, part in which.items()}
            for which in (self.gaussians, self._given)
        )
        self._count = self._count[places]

    def track(self, encoded: _Encoded) -> _Found:
        seen = encoded.seen
        before = self._masks(seen, self.probabilities[1:])
        logits, _ = self.network.segment(self.gaussians, seen, before)
        return _Found(enlarged(logits, encoded.size), seen=seen)

    def update(self, observation: _Found, merged: Tensor) -> None:
        visible = (merged > 0.5).sum((1, 2)) >= self.options.min_area
        rate = self.options.learning_rate * visible
        if rate.any():
            seen = observation.seen
            masks = self._masks(seen, merged)
            self.gaussians = self.network.update(self.gaussians, seen, masks, rate)

    @torch.no_grad()
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        """See `Segmenter.mask_from_box`: what the network tracks from the filled box to the same
        frame, a few times over."""
        inside = mask_of_box(frame, box).to(self.device)
        encoded = self.encode(frame.to(self.device))
        seen = encoded.seen
        filled = self._masks(seen, inside[None].float())
        masks = filled
        for _ in range(_BOX_ROUNDS):
            gaussians = self.network.start(seen, masks)
            logits, _ = self.network.segment(gaussians, seen, masks)
            masks = logits.sigmoid() * filled
            if masks.max() < 0.5:
                return inside.cpu()
        mask = ((enlarged(logits, encoded.size)[0] > 0) & (inside > 0)).to(inside)
        return (mask if mask.any() else inside).cpu()

    @staticmethod
    def _masks(seen: Seen, masks: Tensor) -> Tensor:
        """Masks (O, H, W) of a frame at the size that it was looked at in."""
        return averaged(masks, seen.images.shape[-2:])
