"""Segmentation of objects that nobody pointed out, by RVOS."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop_vos.layers.resizing import enlarged, shrunk
from innerloop_vos.rvos.instances import find_objects
from innerloop_vos.rvos.model.decoder import States
from innerloop_vos.rvos.model.network import RVOS
from innerloop_vos.rvos.options import ZeroShotOptions
from innerloop_vos.rvos.states import packed, unpacked
from innerloop_vos.segmenter import soft_aggregate
from innerloop_vos.unsupervised import UnsupervisedSegmenter


class RVOSZeroShotSegmenter(UnsupervisedSegmenter):
    """RVOS for zero-shot segmentation.

    Objects are found one after the other until the network says stop. One that was found keeps its
    place in this order, and so its states and its id, also while it is out of sight. What stopped
    the search keeps its states too, so that it becomes an object when one appears. What is kept has
    the same size in every frame, but for objects that appear.

    Args:
        network: the network; moved to `device`.
        options: settings. Default: `ZeroShotOptions()`.
        device: where the work is done. Default: the CPU.

    Source:
        Ventura et al., RVOS: End-to-End Recurrent Network for Video Object Segmentation, CVPR 2019.
    """

    def __init__(
        self,
        network: RVOS,
        options: ZeroShotOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.network = network.eval().to(self.device)
        self.options = options or ZeroShotOptions()
        self.network.autocast = torch.bfloat16 if self.options.half else None
        self.known = 0
        self.states: list[States] = []

    def begin(self, frames: Sequence[Tensor]) -> None:
        self.known, self.states = 0, []

    def find(self, frame: Tensor) -> Tensor:
        seen = self.network.see(shrunk(frame, self.options.short_side))
        found, self.known = find_objects(self.network, seen, self.states, self.known, self.options)
        self.states = [each.states for each in found]
        if not self.known:
            return torch.zeros_like(frame[0])
        logits = torch.cat([each.logits for each in found[: self.known]])
        return soft_aggregate(enlarged(logits, frame.shape[1:])).max(0).indices.to(torch.uint8)

    def learned(self) -> dict[str, Any]:
        return {"known": self.known, "states": packed(self.states)}

    def relearn(self, state: dict[str, Any]) -> None:
        self.known = state["known"]
        self.states = unpacked(state["states"], self.device)
