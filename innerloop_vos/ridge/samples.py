"""The samples that an online learner keeps: always the first frame, and the latest others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class SampleMemory:
    """A bounded memory of samples with exponentially decaying weights.

    The weights sum to one. A new sample enters with the share `learning_rate`, at the expense of
    all others; the first keeps at least `first_weight`. When the memory is full, the sample with
    the lowest weight, except the first, is replaced.

    Args:
        capacity: max number of samples, at least 2.
        learning_rate: share of a new sample, in (0, 1).
        first_weight: min share of the first sample, in [0, 1).

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.5.
    """

    def __init__(self, capacity: int, learning_rate: float, first_weight: float) -> None:
        if capacity < 2:
            raise ValueError(f"capacity: {capacity}, should be at least 2")
        if not 0 < learning_rate < 1:
            raise ValueError(f"learning_rate: {learning_rate}, should be between 0 and 1")
        if not 0 <= first_weight < 1:
            raise ValueError(f"first_weight: {first_weight}, should be in [0, 1)")
        self.capacity = capacity
        self.learning_rate = learning_rate
        self.first_weight = first_weight
        self.weights = torch.empty(0)
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.weights)

    def add(self, *sample: Tensor) -> None:
        """Add a sample: one or more tensors, each of the same shape in every sample."""
        count = len(self)
        if not self._parts:
            # Written in place from here on, so reading the memory copies nothing.
            self._parts = [part.new_empty(self.capacity, *part.shape) for part in sample]
        if count == self.capacity:
            slot = 1 + int(self.weights[1:].argmin())
        else:
            slot = count
            self.weights = torch.cat([self.weights, torch.zeros(1)])
        for stored, part in zip(self._parts, sample, strict=True):
            stored[slot] = part
        self._weigh(slot)

    def samples(self) -> tuple[Tensor, ...]:
        """Return the stored samples, each part of shape (len(self), ...), a view of the memory."""
        return tuple(part[: len(self)] for part in self._parts)

    def state_dict(self) -> dict[str, Any]:
        """Return the samples and their weights."""
        return {"weights": self.weights, "parts": self._parts}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take the samples of a `state_dict`, moved to `device`."""
        self.weights = state["weights"]
        self._parts = [part.to(device) for part in state["parts"]]

    def _weigh(self, slot: int) -> None:
        weights = self.weights
        weights[slot] = 0
        if slot == 0:
            weights[0] = 1
            return
        weights *= (1 - self.learning_rate) / weights.sum()
        weights[slot] = self.learning_rate
        if weights[0] < self.first_weight:
            others = weights[1:]
            others *= (1 - self.first_weight) / others.sum()
            weights[0] = self.first_weight
