"""The frames that target models learn from, for several objects side by side."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop_vos.lwl.options import MemoryOptions


class SampleWeights:
    """Which sample of an object's memory is replaced next, and what each one weighs.

    A new sample weighs 1 / (1 - learning_rate) times the one before it. When the memory is full,
    the lightest makes room, which is the oldest.

    Args:
        options: with a `first_weight`, the second sample weighs `learning_rate` where the first has
            1 / (1 - learning_rate), and the first is never replaced; without one, both weigh the
            same. With `geometric`, the rule for all others holds for the second too.

    Attributes:
        values: the weights, shape (capacity,), 0 where there is no sample. They sum to one, or to
            slightly more once the first is held up.
        count: number of samples, at first one.
        latest: slot of the latest sample, None while there is but the first.
    """

    def __init__(self, options: MemoryOptions) -> None:
        self.options = options
        self.values = torch.zeros(options.capacity)
        self.values[0] = 1
        self.count = 1
        self.latest: int | None = None

    def add(self) -> int:
        """Weigh a further sample, and return the slot that it belongs in."""
        values, rate, least = self.values, self.options.learning_rate, self.options.first_weight
        kept = least is not None
        if self.count < len(values):
            slot, self.count = self.count, self.count + 1
        else:
            slot = int(kept) + int(values[int(kept) :].argmin())
        if self.latest is not None or self.options.geometric:
            values[slot] = values[self.latest or 0] / (1 - rate)
        elif kept:
            values /= 1 - rate
            values[slot] = rate
        else:
            values[slot] = values[0]
        values /= values.sum()
        if least is not None and values[0] < least:
            values /= least + values[1:].sum()
            values[0] = least
        self.latest = slot
        return slot

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, and which samples they are of."""
        return {"values": self.values, "count": self.count, "latest": self.latest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self.values, self.count, self.latest = state["values"], state["count"], state["latest"]


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
        grown = []
        for index, first in enumerate(firsts):
            # Zero, for the slots without a sample are there too, with weight zero.
            room = first.new_zeros(len(first), self.options.capacity, *first.shape[1:])
            room[:, 0] = first
            grown.append(torch.cat([self._parts[index], room]) if self._parts else room)
        if grown[0].ndim == 5:
            flat = grown[0].flatten(0, 1).contiguous(memory_format=torch.channels_last)
            grown[0] = flat.view(grown[0].shape)
        self._parts = grown
        self.weights += [SampleWeights(self.options) for _ in firsts[0]]

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
        values = torch.stack([weights.values[:count] for weights in self.weights])
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
