"""Mini-sequences to train on: a few frames of one object of a clip.

All draws come from torch's global generator, so only its state has to be restored, and the place in
the order of clips that are drawn without replacement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.data.sequence import Sequence as Clip

MIN_AREA = 10
"""An object is visible if it covers more pixels than this."""

_LEAST = 9
"""Min number of frames of a clip that show an object which is drawn."""

_TRIES = 100

T = TypeVar("T")


@dataclass(frozen=True)
class MiniSequence:
    """Some frames of a clip, in order, and where one object is in them.

    Attributes:
        frames: each of shape `(3, H, W)`, uint8 RGB.
        masks: each of shape `(H, W)`, bool, of one object that is visible in all of them.
        others: each of shape `(O, H, W)`, bool, of the clip's other objects; empty where the
            sampler does not tell.
    """

    frames: list[Tensor]
    masks: list[Tensor]
    others: list[Tensor] = field(default_factory=list)


class Sampler(Protocol):
    """Draws mini-sequences at random."""

    def sample(self) -> MiniSequence:
        """Draw one."""
        ...

    def place(self) -> Tensor:
        """Return what draws depend on beside torch's generator, int64. Default: nothing."""
        return torch.zeros(0, dtype=torch.int64)

    def go_to(self, place: Tensor) -> None:
        """Draw on from a `place`."""
        return


class Rounds:
    """Draws numbers in rounds, each of which has every number once, in an order of its own.

    Args:
        count: the numbers are 0 to `count` - 1.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._seed, self._drawn = 0, count  # a new round comes next

    def draw(self) -> int:
        """Draw a number."""
        if self._drawn == self.count:
            self._seed, self._drawn = int(torch.randint(2**62, ())), 0
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self._seed))
        self._drawn += 1
        return int(order[self._drawn - 1])

    def place(self) -> Tensor:
        """Return the order's seed and how many were drawn, shape (2,), int64."""
        return torch.tensor([self._seed, self._drawn])

    def go_to(self, place: Tensor) -> None:
        """Draw on from a `place`.

        Raises:
            ValueError: it is none of so many numbers.
        """
        seed, drawn = place.tolist()
        if not (0 <= seed < 2**62 and 0 <= drawn <= self.count):
            raise ValueError(f"place {seed}, {drawn} in a round of {self.count}")
        self._seed, self._drawn = seed, drawn


class ClipSampler(Sampler):
    """Draws the mini-sequences of annotated clips.

    A clip and one of its objects that is visible in at least nine frames are drawn uniformly, then
    frames that show it, with replacement, from a window around one of them. A mini-sequence of an
    image, a clip of one frame, has copies of it, which augmentation makes different.

    Args:
        clips: the clips. One is opened, and all its masks read, when it is first drawn.
        length: frames of a mini-sequence.
        window: length of the part of the clip that they come from, in frames. Default 100.
        replacement: whether a clip may be drawn again before all others were. Default True.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.6, and the released system, which
        draws with replacement, unlike appendix D.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        length: int,
        window: int = 100,
        replacement: bool = True,
    ) -> None:
        self.clips, self.length, self.window = clips, length, window
        self._rounds = None if replacement else Rounds(len(clips))
        self._seen: dict[int, tuple[Clip, list[tuple[int, list[int]]]]] = {}

    def sample(self) -> MiniSequence:
        """Draw a mini-sequence.

        Raises:
            InputError: a hundred clips in a row showed no object for long enough.
        """
        for _ in range(_TRIES):
            rounds = self._rounds
            index = rounds.draw() if rounds else int(torch.randint(len(self.clips), ()))
            clip, objects = self._open(index)
            if objects:
                break
        else:
            raise InputError(
                f"clips: no object is visible in more than {_LEAST - 1} frames of any of the "
                f"{_TRIES} that were drawn"
            )
        id_, visible = choice(objects)
        middle = choice(visible)
        near = [t for t in visible if abs(t - middle) <= self.window // 2]
        chosen = sorted(choice(near) for _ in range(self.length))
        masks = [_labels(clip, t) == id_ for t in chosen]
        return MiniSequence([clip.frames[t] for t in chosen], masks)

    def place(self) -> Tensor:
        return self._rounds.place() if self._rounds else super().place()

    def go_to(self, place: Tensor) -> None:
        if self._rounds:
            self._rounds.go_to(place)

    def _open(self, index: int) -> tuple[Clip, list[tuple[int, list[int]]]]:
        """A clip, and its objects that can be drawn, each with the frames that show it."""
        if index not in self._seen:
            clip, seen = self.clips[index], dict[int, list[int]]()
            for t, labels in enumerate(clip.masks or ()):
                if labels is not None:
                    areas = labels.flatten().bincount()[1:]
                    for id_ in (areas > MIN_AREA).nonzero().flatten().tolist():
                        seen.setdefault(id_ + 1, []).append(t)
            least = 1 if len(clip.frames) == 1 else _LEAST
            enough = [(id_, seen[id_]) for id_ in sorted(seen) if len(seen[id_]) >= least]
            self._seen[index] = clip, enough
        return self._seen[index]


class MixedSampler(Sampler):
    """Draws from several samplers in a given ratio.

    Args:
        samplers: the samplers.
        ratio: how often each sampler is used, relative to the others.

    Raises:
        InputError: there is not one positive number per sampler.
    """

    def __init__(self, samplers: Sequence[Sampler], ratio: Sequence[float]) -> None:
        if len(ratio) != len(samplers) or not all(part > 0 for part in ratio):
            raise InputError(
                f"ratio: {', '.join(map(str, ratio))}; should be a positive number for each of the "
                f"{len(samplers)} data sets"
            )
        self.samplers, self.ratio = samplers, torch.tensor(ratio, dtype=torch.float64)

    def sample(self) -> MiniSequence:
        """Draw a mini-sequence."""
        return self.samplers[int(torch.multinomial(self.ratio, 1))].sample()

    def place(self) -> Tensor:
        return torch.cat([sampler.place() for sampler in self.samplers])

    def go_to(self, place: Tensor) -> None:
        lengths = [len(sampler.place()) for sampler in self.samplers]
        for sampler, own in zip(self.samplers, place.split(lengths), strict=True):  # type: ignore[no-untyped-call]
            sampler.go_to(own)


def choice(items: Sequence[T]) -> T:
    """Draw one of some items uniformly."""
    return items[int(torch.randint(len(items), ()))]


def uniform(low: float, high: float) -> float:
    """Draw a number between two bounds."""
    return low + (high - low) * float(torch.rand(()))


def _labels(clip: Clip, index: int) -> Tensor:
    labels = clip.masks[index] if clip.masks is not None else None
    assert labels is not None  # only annotated frames are visible
    return labels
