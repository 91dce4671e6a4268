"""Segmentation of video by e-OSVOS."""

import copy
from typing import Any

import torch
from torch import Tensor

import innerloop as il
from innerloop_vos.eosvos.adapted_object import AdaptedObject, OnLoss
from innerloop_vos.eosvos.finetuning import learning
from innerloop_vos.eosvos.network import EOSVOS, Encoded
from innerloop_vos.eosvos.options import EOSVOSOptions
from innerloop_vos.segmenter import Observation, Progress, Segmenter, mask_of_box


class EOSVOSSegmenter(Segmenter):
    """e-OSVOS on video: every object has its own fine-tuned network.

    A fine-tuning that diverges is skipped, with a warning: the object keeps its previous network.

    Args:
        network: network where fine-tuning starts; not changed.
        rates: learning rates of its parameters, one per neuron or of any other kind that is the
            same in all steps.
        options: settings. Default: the released system's.
        device: where the work is done. Default: the CPU.

    Raises:
        ValueError: the rates change from step to step, or all are 0.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020.
    """

    def __init__(
        self,
        network: EOSVOS,
        rates: il.LearningRates,
        options: EOSVOSOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.options = options or EOSVOSOptions()
        factor = self.options.rate_factor
        chosen = learning(network, rates)
        self.rates = {name: factor * rate.to(self.device) for name, rate in chosen.items()}
        # Parameters without a rate need no gradient.
        frozen: EOSVOS = copy.deepcopy(network).requires_grad_(False).to(self.device)
        frozen.autocast = torch.bfloat16 if self.options.half else None
        self.network = il.Adapted(frozen, list(self.rates))
        self._frozen = frozen
        self._depth = frozen.common_depth(self.rates)
        self._targets: list[AdaptedObject] = []

    def reset(self) -> None:
        self._targets = []

    def learned(self) -> list[dict[str, Any]]:
        return [target.state_dict() for target in self._targets]

    def relearn(self, state: list[dict[str, Any]]) -> None:
        made = (self._frozen, self.network, self.rates, self.options)
        self._targets = [
            AdaptedObject.from_state(*made, _moved(each, self.device)) for each in state
        ]

    def encode(self, frame: Tensor) -> Encoded:
        # From the first trained layer on, every object has its own features.
        return self._frozen.encode([frame.float() / 255], depth=self._depth)

    def add(self, encoded: Encoded, masks: Tensor) -> None:
        made = (self._frozen, self.network, self.rates, self.options)
        for mask in masks:
            on_loss = self._reporter(len(self._targets))
            self._targets.append(AdaptedObject(*made, encoded, mask, on_loss))

    def trust(self, encoded: Encoded, masks: Tensor) -> None:
        for place, (target, mask) in enumerate(zip(self._targets, masks, strict=True)):
            target.trust(encoded, mask, self._reporter(place))

    def keep(self, places: list[int]) -> None:
        self._targets = [self._targets[place] for place in places]

    def track(self, encoded: Encoded) -> Observation:
        found = torch.stack([target.track(encoded) for target in self._targets])
        return Observation(found.clamp(1e-6, 1 - 1e-6).logit())

    def merge(self, scores: Tensor) -> Tensor:
        # The likeliest object takes a pixel, unless it is less likely there than not.
        return torch.cat([torch.zeros_like(scores[:1]), scores]).softmax(0)

    def update(self, observation: Observation, merged: Tensor) -> None:
        # Objects learn from what they found themselves, not from the merged result.
        for place, target in enumerate(self._targets):
            target.learn(self._reporter(place))

    def _reporter(self, place: int) -> OnLoss | None:
        """What tells `on_progress` of the fine-tuning of an object."""
        listener, what = self.on_progress, f"fine-tuning object {self.ids[place]}"
        if listener is None:
            return None
        # Only then is the loss read, which makes a GPU wait.
        return lambda done, total, loss: listener(Progress(what, done, total, loss.item()))

    @torch.no_grad()
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        inside = mask_of_box(frame, box)
        left, top, width, height = box
        corners = torch.tensor(
            [[left, top, left + width, top + height]], dtype=torch.float32, device=self.device
        )
        (found,) = self.network(self.encode(frame.to(self.device)), boxes=[corners], proposals=0)
        mask = (found["masks"][:, 0] > 0.5).any(0).cpu() & inside.bool()
        return mask.byte() if mask.any() else inside


def _moved(state: Any, device: torch.device) -> Any:
    """A state with its tensors on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: _moved(part, device) for name, part in state.items()}
    return (
        type(state)(_moved(p, device) for p in state) if isinstance(state, list | tuple) else state
    )
