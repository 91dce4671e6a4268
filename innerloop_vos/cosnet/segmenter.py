"""Finding the primary objects of a video by COSNet."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop_vos.cosnet.model.network import COSNet, Seen
from innerloop_vos.cosnet.options import COSNetOptions
from innerloop_vos.cosnet.selection import SELECTIONS
from innerloop_vos.layers.resizing import enlarged, shrunk
from innerloop_vos.postprocessing.guided_filter import guided_upsample
from innerloop_vos.unsupervised import UnsupervisedSegmenter


class COSNetSegmenter(UnsupervisedSegmenter):
    """Finds the primary objects of every frame, with the help of a few others of the video.

    All of them together are object 1. A frame that helps is looked at once for that, when it first
    does; kept are the features of those that help now, however long the video is.

    Args:
        network: the networks; moved to `device`.
        options: settings. Default: `COSNetOptions()`.
        device: where the work is done. Default: the CPU.

    Source:
        Lu et al., See More, Know More, CVPR 2019; slide "COSNet: Testing".
    """

    def __init__(
        self,
        network: COSNet,
        options: COSNetOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.network = network.eval().to(self.device)
        self.options = options or COSNetOptions()
        self.network.autocast = torch.bfloat16 if self.options.half else None
        self.frames: Sequence[Tensor] = ()
        self.time = 0
        self._features: dict[int, Tensor] = {}
        """Of the latest frame and those that help it, by index."""

    def begin(self, frames: Sequence[Tensor]) -> None:
        self.frames, self.time, self._features = frames, 0, {}

    def find(self, frame: Tensor) -> Tensor:
        seen = self._look(frame)
        logits = self.network.segment(seen, self._references(seen))
        self.time += 1
        probability = enlarged(logits[None], frame.shape[1:])[0].sigmoid()
        if self.options.refine:
            probability = guided_upsample(probability[None], frame.float() / 255)[0]
        return (probability > self.options.threshold).byte()

    def learned(self) -> dict[str, Any]:
        return {"time": self.time}

    def relearn(self, state: dict[str, Any]) -> None:
        self.time = int(state["time"])

    def _references(self, seen: Seen) -> Tensor:
        """Features (N, C, h, w) of the frames that help with this one."""
        options = self.options
        select = SELECTIONS[options.selection]
        wanted = select(len(self.frames), options.references, self.time, options.seed)
        known = self._features | {self.time: seen.features}
        for index in wanted:
            if index not in known:
                known[index] = self._look(self.frames[index]).features
        # This frame may be one of those around the next.
        self._features = {index: known[index] for index in (*wanted, self.time)}
        return torch.cat([seen.features[:0], *(known[index] for index in wanted)])

    def _look(self, frame: Tensor) -> Seen:
        return self.network.see(shrunk(frame.to(self.device), self.options.short_side))
