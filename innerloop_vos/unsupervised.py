"""The streaming interface of the methods that find the objects of a video by themselves."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop_vos.segmenter import check_frame


class UnsupervisedSegmenter(ABC):
    """Finds the objects of a video, frame by frame, without being told which.

    Call `start` with the frames of the video, then `step` with each of them in order. A method
    implements the abstract steps below.

    Args:
        device: where the work is done. Default: the CPU.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._size: tuple[int, int] | None = None

    @torch.no_grad()
    def start(self, frames: Sequence[Tensor]) -> None:
        """Begin a video.

        Args:
            frames: all frames of the video, RGB, each of shape (3, H, W), uint8; at least one. They
                may be read on demand: a method looks at no more of them than it needs.

        Raises:
            InputError: the first frame is no such tensor.
        """
        first = frames[0]
        check_frame(first, None)
        self._size = (first.shape[1], first.shape[2])
        self.begin(frames)

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor:
        """Find the objects of the next frame.

        Args:
            frame: RGB, shape (3, H, W), uint8.

        Returns:
            Object ids, 0 for background, shape (H, W), uint8, on the CPU. An object keeps its id.

        Raises:
            InputError: the frame does not fit the video.
            RuntimeError: no video was started.
        """
        if self._size is None:
            raise RuntimeError("step: call start with the frames of the video before")
        check_frame(frame, self._size)
        return self.find(frame.to(self.device)).cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next `step` depends on beside the video, for another process."""
        return {"learned": self.learned()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; `start` was called with the same video before."""
        self.relearn(state["learned"])

    @abstractmethod
    def begin(self, frames: Sequence[Tensor]) -> None:
        """Forget the previous video, and take from all frames of the new one what is needed."""

    @abstractmethod
    def find(self, frame: Tensor) -> Tensor:
        """Find the objects of the next frame, (3, H, W) uint8: their ids, (H, W) uint8."""

    def learned(self) -> Any:
        """Return what `step` keeps from frame to frame, for `state_dict`. Default: nothing."""
        return None

    def relearn(self, state: Any) -> None:
        """Take what `learned` returned, with its tensors on the CPU. Default: nothing."""
        return
