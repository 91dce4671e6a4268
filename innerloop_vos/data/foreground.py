"""Mini-sequences of whole frames, whose mask is all that is annotated.

All draws come from torch's global generator, so only its state has to be restored.
"""

from collections.abc import Sequence

from innerloop.errors import InputError
from innerloop_vos.data.sampling import MiniSequence, Sampler, choice
from innerloop_vos.data.sequence import Sequence as Clip
from innerloop_vos.data.sequence import annotated

_TRIES = 100


class ForegroundSampler(Sampler):
    """Draws a clip and frames of it uniformly, with all its objects as one.

    Args:
        clips: the clips. One is opened when it is first drawn.
        length: frames of a mini-sequence; different ones, where the clip has as many.
    """

    def __init__(self, clips: Sequence[Clip], length: int) -> None:
        self.clips, self.length = clips, length
        self._open: dict[int, tuple[Clip, list[int]]] = {}

    def sample(self) -> MiniSequence:
        """Draw a mini-sequence, in any order of its frames.

        Raises:
            InputError: none of a hundred clips has an annotated frame.
        """
        for _ in range(_TRIES):
            index = choice(range(len(self.clips)))
            if index not in self._open:
                clip = self.clips[index]
                self._open[index] = clip, annotated(clip.masks)
            clip, times = self._open[index]
            if times:
                break
        else:
            raise InputError(f"clips: none of {_TRIES} that were drawn has an annotated frame")
        left: list[int] = []
        frames, masks = [], []
        for _ in range(self.length):
            left = left or list(times)
            time = left.pop(choice(range(len(left))))
            labels = clip.masks[time] if clip.masks is not None else None
            assert labels is not None  # only annotated frames are drawn
            frames.append(clip.frames[time])
            masks.append(labels > 0)
        return MiniSequence(frames, masks)
