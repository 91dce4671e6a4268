"""The frames that target models learn from, for several objects side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop_vos.lwl.options import MemoryOptions

_LEAST = 0.25
"""Min weight of corrected samples where the first, from a box, has none: that of first masks."""


class SampleWeights:
    """Which sample of an object's memory is replaced next, and what each one weighs.

    A new sample weighs 1 / (1 - learning_rate) times the one before it. When the memory is full,
    the lightest makes room, which is the oldest. Samples whose masks were given lie in the first
    slots and never make room.

    Args:
        options: with a `first_weight`, the second sample weighs `learning_rate` where the first has
            1 / (1 - learning_rate), and the first is never replaced; without one, both weigh the
            same. With `geometric`, the rule for all others holds for the second too. After a
            correction, the samples whose masks were given take the place of the first.

    Attributes:
        values: the weights, shape (capacity + corrections,), 0 where there is no sample. They sum
            to one, or to slightly more once those in the first slots are held up.
        count: number of samples, at first one.
        latest: slot of the latest sample, None while there are but those whose masks were given.
        given: number of the first slots, which are never replaced.
    """

    def __init__(self, options: MemoryOptions) -> None:
        self.options = options
        self.values = torch.zeros(options.capacity)
        self.values[0] = 1
        self.count = 1
        self.latest: int | None = None
        self.given = int(options.first_weight is not None)

    def add(self) -> int:
        """Weigh a further sample, and return the slot that it belongs in."""
        values, rate, given = self.values, self.options.learning_rate, self.given
        if self.count < len(values):
            slot, self.count = self.count, self.count + 1
        else:
            slot = given + int(values[given:].argmin())
        if self.latest is not None or self.options.geometric:
            values[slot] = values[self.latest or 0] / (1 - rate)
        elif given:
            values /= 1 - rate
            values[slot] = rate
        else:
            values[slot] = values[0]
        values /= values.sum()
        least = self.options.first_weight
        least = _LEAST if least is None else least
        if given and values[0] < least:  # they all weigh the same
            values /= given * least + values[given:].sum()
            values[:given] = least
        self.latest = slot
        return slot

    def trust(self, *, shown: bool) -> int:
        """Weigh a further sample whose mask was given like the others of these, and drop the rest.

        Args:
            shown: whether the object is in it.

        Returns:
            The slot that it belongs in.
        """
        # A first mask found in a box makes room, unless nothing else shows the object.
        slot = self.given or int(not shown)
        self.given = self.count = slot + 1
        self.values = torch.zeros(len(self.values) + 1)
        self.values[: self.count] = 1 / self.count
        self.latest = None
        return slot

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, and which samples they are of."""
        names = ("values", "count", "latest", "given")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self.values, self.count, self.latest = state["values"], state["count"], state["latest"]
        self.given = state.get("given", self.given)  # states of before there were corrections


class TargetMemory:
    """The samples of all objects, in tensors with a leading axis of objects.

    Args:
        options: how many samples an object has, and what they weigh.
    """

    def __init__(self, options: MemoryOptions) -> None:
        self.options = options
        self.weights: list[SampleWeights] = []
        self._parts: list[Tensor] = []

    def add_objects(self, *firsts: Tensor) -> None:
        """Add objects with the sample of their first frame: parts of shape (new, ...).

        The part that comes first should be the features: with the channels of a pixel side by side
        in memory, as the solver reads them.
        """
        slots = self._parts[0].shape[1] if self._parts else self.options.capacity
        grown = []
        for index, first in enumerate(firsts):
            # Zero, for the slots without a sample are there too, with weight zero.
            room = first.new_zeros(len(first), slots, *first.shape[1:])
            room[:, 0] = first
            grown.append(torch.cat([self._parts[index], room]) if self._parts else room)
        self._parts = _arranged(grown)
        self.weights += [SampleWeights(self.options) for _ in firsts[0]]

    def trust(self, shown: Sequence[bool], *samples: Tensor) -> None:
        """Add a sample of each object whose mask was given; those whose masks were found are gone.

        Args:
            shown: which of the objects are in it.
            samples: parts of shape (O, ...).
        """
        grown = [torch.cat([p, torch.zeros_like(p[:, :1])], dim=1) for p in self._parts]
        self._parts = _arranged(grown)
        for index, weights in enumerate(self.weights):
            slot = weights.trust(shown=shown[index])
            for stored, part in zip(self._parts, samples, strict=True):
                stored[index, slot] = part[index]

    def keep(self, places: list[int]) -> None:
        """Forget all objects but those at these places."""
        self.weights = [self.weights[place] for place in places]
        self._parts = _arranged([part[places] for part in self._parts])

    def add_samples(self, *samples: Tensor) -> None:
        """Add a sample of each object, in parts of shape (O, ...)."""
        if self.options.capacity == 1:
            return
        for index, weights in enumerate(self.weights):
            slot = weights.add()
            for stored, part in zip(self._parts, samples, strict=True):
                stored[index, slot] = part[index]

    def samples(self) -> tuple[Tensor, ...]:
        """Return each part, shape (O, N, ...), and the weights (O, N), where N is the max
        number of samples of an object; the weights are zero where there is no sample. The parts
        are no copies: what is written to them is remembered."""
        count = max(weights.count for weights in self.weights)
        parts = [part[:, :count] for part in self._parts]
        values = torch.zeros(len(self.weights), count)
        for row, weights in zip(values, self.weights, strict=True):
            row[: weights.count] = weights.values[: weights.count]
        return (*parts, values.to(parts[0]))

    def state_dict(self) -> dict[str, Any]:
        """Return the samples and their weights."""
        return {"weights": [each.state_dict() for each in self.weights], "parts": self._parts}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take the samples of a `state_dict`, which live on `device` from now on."""
        self.weights = [SampleWeights(self.options) for _ in state["weights"]]
        for weights, values in zip(self.weights, state["weights"], strict=True):
            weights.load_state_dict(values)
        self._parts = [part.to(device) for part in state["parts"]]


def _arranged(parts: list[Tensor]) -> list[Tensor]:
    """Samples whose first part has the channels of a pixel side by side in memory."""
    first, *others = parts
    if first.ndim == 5:
        flat = first.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        first = flat.view(first.shape)
    return [first, *others]
