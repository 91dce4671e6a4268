"""What the decoder sees while whole clips are tracked, kept to train it on."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from tqdm import tqdm

from innerloop.errors import InputError
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.data.sampling import choice
from innerloop_vos.lwl.segmenter import Found, LWLSegmenter
from innerloop_vos.lwl.tracking.region import SearchRegion
from innerloop_vos.postprocessing.calibration import calibrate
from innerloop_vos.training import processes

_STRIDE = 16
"""Windows begin at multiples of so many pixels, where the pixels of all levels begin."""

_MIN_SHARE = 0.002
"""Of a window, that the object or what is taken for it covers."""

_TRIES = 100


@dataclass(frozen=True)
class TrackedObject:
    """An object in a frame that was tracked.

    Attributes:
        clip: index of the clip.
        frame: index of the frame.
        id: of the object in the clip's masks.
        region: where it was looked for.
        scores: its target scores there, the first calibrated, shape (D, h, w), float16.
    """

    clip: int
    frame: int
    id: int
    region: SearchRegion
    scores: Tensor


class Replay:
    """Tracks clips with the network as it is, and draws windows of the frames.

    Args:
        clips: annotated clips; one is opened when it is first tracked.
        count: how many clips are tracked at a time, at most.
        interval: frames of a clip from one that is segmented to the next, on average.
        length: how many frames of a clip are segmented, at most.
        window: height and width of what is drawn, in pixels of the search region, multiples of 16.

    Attributes:
        tracked: what was seen in each clip.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        count: int,
        interval: int,
        length: int,
        window: tuple[int, int],
    ) -> None:
        self.clips, self.count = clips, count
        self.interval, self.length, self.window = interval, length, window
        self.tracked: list[list[TrackedObject]] = []
        self._opened: dict[int, Clip] = {}
        self._recolour = v2.Compose(
            [v2.ColorJitter(0.4, 0.4, 0.6, 0.5), v2.RandomChannelPermutation()]
        )

    def record(self, segmenter: LWLSegmenter) -> None:
        """Track clips that are drawn anew, and forget what was seen before.

        Raises:
            InputError: in no clip anything was tracked.
        """
        chosen = sorted(torch.randperm(len(self.clips))[: self.count].tolist())
        self._opened = {}
        bar = tqdm(chosen, "tracking", unit="clip", leave=False, disable=processes.rank() > 0)
        self.tracked = [seen for index in bar if (seen := self._track(segmenter, index))]
        if not self.tracked:
            raise InputError("clips: none has two annotated frames, an object in the first of them")

    def _track(self, segmenter: LWLSegmenter, index: int) -> list[TrackedObject]:
        clip = self._open(index)
        masks = clip.masks or []
        shown = [t for t in range(len(masks)) if (mask := masks[t]) is not None and mask.any()]
        if not shown:
            return []
        first, *others = self._course(shown)
        labels = masks[first]
        assert labels is not None
        segmenter.start(clip.frames[first], labels)
        seen = []
        for t in others:
            labels = masks[t]
            segmenter.step(clip.frames[t], labels if labels is not None and labels.any() else None)
            if labels is not None:
                seen_now = segmenter.observation
                assert isinstance(seen_now, Found)
                found = zip(segmenter.ids, seen_now.regions, seen_now.scores, strict=False)
                for id_, region, scores in found:
                    scores = torch.cat([calibrate(scores[:1]), scores[1:]])
                    seen.append(TrackedObject(index, t, id_, region, scores.half().cpu()))
        return seen

    def _course(self, shown: list[int]) -> list[int]:
        """The frames to follow: forwards or backwards, and other ones each time."""
        if choice([False, True]):
            shown = shown[::-1]
        first, last = choice(shown[: max(1, len(shown) // 3)]), shown[-1]
        onwards = 1 if last >= first else -1
        interval = onwards * choice(range(1, 2 * self.interval))
        return list(range(first, last + onwards, interval))[: self.length]

    def _open(self, index: int) -> Clip:
        if index not in self._opened:
            self._opened[index] = self.clips[index]
        return self._opened[index]

    def batch(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw windows, mirrored and with other colours.

        Args:
            count: B, number of windows.

        Returns:
            Images, RGB in 0..1, shape `(B, 3, *window)`; target scores, the first calibrated,
            `(B, D, h, w)`; masks, 0 or 1, `(B, *window)`.

        Raises:
            InputError: A hundred windows in a row show no object.
        """
        drawn = zip(*(self._draw() for _ in range(count)), strict=True)
        images, scores, masks = (torch.stack(parts) for parts in drawn)
        return images, scores, masks

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        for _ in range(_TRIES):
            seen = choice(choice(self.tracked))
            stride = math.ceil(seen.region.output[0] / seen.scores.shape[1])
            rows, columns = (
                _part(whole, part)
                for whole, part in zip(seen.region.output, self.window, strict=True)
            )
            scores = seen.scores[:, _shrunk(rows, stride), _shrunk(columns, stride)].float()
            clip = self._open(seen.clip)
            labels = clip.masks[seen.frame] if clip.masks is not None else None
            assert labels is not None  # only annotated frames are kept
            mask = seen.region.crop_mask((labels == seen.id).float())[rows, columns]
            if max(mask.mean(), (scores[0] > 0).float().mean()) < _MIN_SHARE:
                continue
            image = seen.region.crop(clip.frames[seen.frame].float() / 255)[:, rows, columns]
            image = self._recolour(image)
            if choice([False, True]):
                return image.flip(-1), scores.flip(-1), mask.flip(-1)
            return image, scores, mask
        raise InputError(f"clips: no object in any of {_TRIES} windows of tracked frames")

    def state_dict(self) -> dict[str, Any]:
        """Return what was recorded, as tensors and plain values."""
        objects = [seen for clip in self.tracked for seen in clip]
        return {
            "places": [(seen.clip, seen.frame, seen.id) for seen in objects],
            "regions": [astuple(seen.region) for seen in objects],
            "scores": [seen.scores for seen in objects],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        clips: dict[int, list[TrackedObject]] = {}
        parts = zip(state["places"], state["regions"], state["scores"], strict=True)
        for (clip, frame, id_), region, scores in parts:
            seen = TrackedObject(clip, frame, id_, SearchRegion(*region), scores)
            clips.setdefault(clip, []).append(seen)
        self.tracked = list(clips.values())


def _part(whole: int, length: int) -> slice:
    start = _STRIDE * int(torch.randint((whole - length) // _STRIDE + 1, ()))
    return slice(start, start + length)


def _shrunk(pixels: slice, stride: int) -> slice:
    return slice(pixels.start // stride, -(-pixels.stop // stride))
