"""What is remembered of objects: sums of constant size, however long the video is."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import innerloop as il


class TargetMemory:
    """The statistics of the frames whose masks were given, beside a moving average of later ones.

    While few later frames were seen, they weigh less, as if the average had begun with those given.

    Args:
        learning_rate: share of a new frame in the average, in (0, 1).
        first_weight: least share in all of a frame whose mask was given, while there is one, in
            [0, 1); each further one weighs as much.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.5, without a bound on samples.
    """

    def __init__(self, learning_rate: float, first_weight: float) -> None:
        self.learning_rate, self.first_weight = learning_rate, first_weight
        self._given: il.Statistics | None = None
        self._later: il.Statistics | None = None
        self._seen = torch.empty(0)
        """What later frames would weigh in an average that began with those given, per object."""
        self._count = torch.empty(0)
        """The frames that `_given` is the mean of, per object."""

    def start(self, firsts: il.Statistics) -> None:
        """Add objects.

        Args:
            firsts: of their first frames, batch shape (new,).
        """
        nothing = firsts.detach().scaled(0.0)
        seen = torch.zeros_like(nothing.energy[:, 0])
        count = torch.ones_like(seen)
        if self._given is None or self._later is None:
            self._given, self._later, self._seen, self._count = firsts, nothing, seen, count
        else:
            self._given = _joined(self._given, firsts)
            self._later = _joined(self._later, nothing)
            self._seen = torch.cat([self._seen, seen])
            self._count = torch.cat([self._count, count])

    def trust(self, new: il.Statistics) -> None:
        """Remember a frame whose masks were given, and forget those whose masks were found.

        Args:
            new: statistics of all objects.
        """
        assert self._given is not None
        self._count = self._count + 1
        self._given = self._given.updated(new, 1 / self._count)
        self._later = new.scaled(0.0)
        self._seen = torch.zeros_like(self._seen)

    def keep(self, places: list[int]) -> None:
        """Forget all objects but those at these places."""
        assert self._given is not None
        assert self._later is not None
        self._given, self._later = _at(self._given, places), _at(self._later, places)
        self._seen, self._count = self._seen[places], self._count[places]

    def add(self, new: il.Statistics, of: Tensor | None = None) -> None:
        """Remember a later frame.

        Args:
            new: statistics of all objects.
            of: which of them learn from it, shape (O,), bool. Default: all.
        """
        assert self._later is not None
        rate = torch.full_like(self._seen, self.learning_rate)
        if of is not None:
            rate = rate * of
        self._later = self._later.scaled(1 - rate) + new.scaled(rate)
        self._seen = self._seen * (1 - rate) + rate

    def statistics(self) -> il.Statistics:
        """What the target models are fitted to: of all objects, batch shape (O,)."""
        assert self._given is not None
        assert self._later is not None
        least = self._count * self.first_weight
        given = torch.maximum(1 - self._seen, least / (least + (1 - self.first_weight)))
        # The average began with nothing, and holds as much less.
        later = torch.where(self._seen > 0, (1 - given) / self._seen, 0.0)
        return self._given.scaled(given) + self._later.scaled(later)

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        assert self._given is not None
        assert self._later is not None
        given, later = self._given.state_dict(), self._later.state_dict()
        return {"first": given, "later": later, "seen": self._seen, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take what `state_dict` returned, moved to `device`."""
        self._given, self._later = (
            il.Statistics(**{name: tensor.to(device) for name, tensor in state[part].items()})
            for part in ("first", "later")
        )
        self._seen = state["seen"].to(device)
        count = state.get("count")  # None in states of before there were corrections
        self._count = torch.ones_like(self._seen) if count is None else count.to(device)


def _joined(some: il.Statistics, more: il.Statistics) -> il.Statistics:
    """The statistics of the objects of both."""
    others = more.state_dict()
    return il.Statistics(
        **{name: torch.cat([part, others[name]]) for name, part in some.state_dict().items()}
    )


def _at(some: il.Statistics, places: list[int]) -> il.Statistics:
    """The statistics of the objects at these places."""
    return il.Statistics(**{name: part[places] for name, part in some.state_dict().items()})
