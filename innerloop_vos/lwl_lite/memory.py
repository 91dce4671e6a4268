"""What is remembered of objects: sums of constant size, however long the video is."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import innerloop as il


class TargetMemory:
    """The statistics of objects' first frames, beside a moving average of those of later ones.

    While few later frames were seen, they weigh less, as if the average had begun with the first.

    Args:
        learning_rate: share of a new frame in the average, in (0, 1).
        first_weight: least share of the first frame in all, in [0, 1).

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.5, without a bound on samples.
    """

    def __init__(self, learning_rate: float, first_weight: float) -> None:
        self.learning_rate, self.first_weight = learning_rate, first_weight
        self._first: il.Statistics | None = None
        self._later: il.Statistics | None = None
        self._seen = torch.empty(0)
        """What later frames would weigh in an average that began with the first, per object."""

    def start(self, firsts: il.Statistics) -> None:
        """Add objects.

        Args:
            firsts: of their first frames, batch shape (new,).
        """
        nothing = firsts.detach().scaled(0.0)
        seen = torch.zeros_like(nothing.energy[:, 0])
        if self._first is None or self._later is None:
            self._first, self._later, self._seen = firsts, nothing, seen
        else:
            self._first = _joined(self._first, firsts)
            self._later = _joined(self._later, nothing)
            self._seen = torch.cat([self._seen, seen])

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
        assert self._first is not None
        assert self._later is not None
        first = (1 - self._seen).clamp(min=self.first_weight)
        # The average began with nothing, and holds as much less.
        later = torch.where(self._seen > 0, (1 - first) / self._seen, 0.0)
        return self._first.scaled(first) + self._later.scaled(later)

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        assert self._first is not None
        assert self._later is not None
        first, later = self._first.state_dict(), self._later.state_dict()
        return {"first": first, "later": later, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take what `state_dict` returned, moved to `device`."""
        self._first, self._later = (
            il.Statistics(**{name: tensor.to(device) for name, tensor in state[part].items()})
            for part in ("first", "later")
        )
        self._seen = state["seen"].to(device)


def _joined(some: il.Statistics, more: il.Statistics) -> il.Statistics:
    """The statistics of the objects of both."""
    others = more.state_dict()
    return il.Statistics(
        **{name: torch.cat([part, others[name]]) for name, part in some.state_dict().items()}
    )
