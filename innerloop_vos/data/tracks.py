"""Mini-sequences as a tracker meets them: frame after frame, at one speed, objects may vanish.

All draws come from torch's global generator, so only its state has to be restored.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.data.sampling import MIN_AREA, MiniSequence, Sampler, choice, uniform
from innerloop_vos.data.sequence import Sequence as Clip
from innerloop_vos.data.sequence import annotated

_TRIES = 100
_UNEVEN = 0.5
"""Greatest logarithm of the ratio of a step and the speed."""


class TrackSampler(Sampler):
    """Draws mini-sequences that begin where an object is visible and go on at a random speed.

    A clip, one of its objects and a frame that shows it are drawn uniformly, then a speed and a
    direction in time, which turns round at the ends. The object is visible in the first frame and
    in all others but one. An image, a clip of one frame, gives copies of it, which augmentation
    makes different.

    Args:
        clips: the clips. One is opened, and all its masks read, when it is first drawn.
        length: frames of a mini-sequence.
        fastest: greatest speed, in frames of the clip per frame. Default 10.
        least: min pixels of an object in the first frame. Default 300.
    """

    def __init__(
        self, clips: Sequence[Clip], length: int, fastest: float = 10.0, least: int = 300
    ) -> None:
        self.clips, self.length, self.fastest, self.least = clips, length, fastest, least
        self._seen: dict[int, _Shown] = {}

    def sample(self) -> MiniSequence:
        """Draw a mini-sequence.

        Raises:
            InputError: a hundred draws in a row showed no object for long enough.
        """
        for _ in range(_TRIES):
            shown = self._open(int(torch.randint(len(self.clips), ())))
            if not shown.areas:
                continue
            id_ = choice(list(shown.areas))
            areas = shown.areas[id_]
            start = choice([index for index, area in enumerate(areas) if area >= self.least])
            chosen = self._steps(start, len(areas))
            if sum(areas[index] <= MIN_AREA for index in chosen) <= 1:
                frames = [shown.clip.frames[shown.times[index]] for index in chosen]
                masks, others = zip(*(shown.masks(index, id_) for index in chosen), strict=True)
                return MiniSequence(frames, list(masks), list(others))
        raise InputError(
            f"clips: in {_TRIES} draws, no object of {self.least} pixels was visible for long "
            "enough"
        )

    def _steps(self, start: int, count: int) -> list[int]:
        """Indices of frames, from the first."""
        speed, direction = uniform(1, self.fastest), 1 if uniform(0, 1) < 0.5 else -1
        chosen = [start]
        for _ in range(self.length - 1):
            step = max(1, round(speed * math.exp(uniform(-_UNEVEN, _UNEVEN))))
            if not 0 <= chosen[-1] + direction * step < count:
                direction = -direction
            chosen.append(min(max(chosen[-1] + direction * step, 0), count - 1))
        return chosen

    def _open(self, index: int) -> "_Shown":
        if index not in self._seen:
            clip = self.clips[index]
            times = annotated(clip.masks)
            areas: dict[int, list[int]] = {}
            for at, t in enumerate(times):
                for id_, area in enumerate(_labels(clip, t).flatten().bincount().tolist()):
                    if id_ and area:
                        areas.setdefault(id_, [0] * len(times))[at] = area
            large = {id_: sizes for id_, sizes in areas.items() if max(sizes) >= self.least}
            self._seen[index] = _Shown(clip, times, large)
        return self._seen[index]


class _Shown(NamedTuple):
    """What of a clip can be drawn."""

    clip: Clip
    times: list[int]  # of the annotated frames
    areas: dict[int, list[int]]  # of the large objects in these, in pixels

    def masks(self, index: int, id_: int) -> tuple[Tensor, Tensor]:
        """Of an object, shape (H, W), and of the other large ones, shape (O, H, W)."""
        labels = _labels(self.clip, self.times[index])
        others = torch.tensor([other for other in self.areas if other != id_])
        return labels == id_, labels == others[:, None, None]


def _labels(clip: Clip, t: int) -> Tensor:
    labels = clip.masks[t] if clip.masks is not None else None
    assert labels is not None  # only annotated frames are asked for
    return labels
