"""Segmentation of video by LWL: the network, and the state that it is run with."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.backbones.joining import check_finite
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.options import FROM_BOXES, LWLOptions
from innerloop_vos.lwl.tracking.memory import TargetMemory
from innerloop_vos.lwl.tracking.moments import target_state
from innerloop_vos.lwl.tracking.motion import Motion
from innerloop_vos.lwl.tracking.region import SearchRegion
from innerloop_vos.segmenter import Observation, Segmenter, mask_of_box


@dataclass(frozen=True, kw_only=True)
class Found(Observation):
    """What LWL finds in a frame.

    Attributes:
        regions: where each object was looked for.
        features: that the filters saw there, shape (O, C, h, w).
        scores: target scores, shape (O, D, h, w).
    """

    regions: list[SearchRegion]
    features: Tensor
    scores: Tensor


class LWLSegmenter(Segmenter):
    """Learning What to Learn on video; all objects are solved and decoded in one batch.

    Args:
        network: the network; moved to `device`.
        options: settings of videos that start from a mask. Default: the released ones.
        box_options: settings of videos whose first masks were found in boxes. Default: likewise,
            `FROM_BOXES`.
        device: where the work is done. Default: the CPU.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, section 3.5
        and appendix C.
    """

    def __init__(
        self,
        network: LWL,
        options: LWLOptions | None = None,
        box_options: LWLOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.network = network.eval().to(self.device)
        self.mask_options = options or LWLOptions()
        self.box_options = box_options or FROM_BOXES

    def reset(self) -> None:
        self.options = self.box_options if self.from_boxes else self.mask_options
        self.memory = TargetMemory(self.options.memory)
        self.motions: list[Motion] = []
        self.filters = torch.empty(0, device=self.device)
        self._updates = 0

    def learned(self) -> dict[str, Any]:
        return {
            "memory": self.memory.state_dict(),
            "motions": [motion.state_dict() for motion in self.motions],
            "filters": self.filters,
            "updates": self._updates,
        }

    def relearn(self, state: dict[str, Any]) -> None:
        self.memory.load_state_dict(state["memory"], self.device)
        self.motions = [Motion.from_state(self.options.region, each) for each in state["motions"]]
        self.filters = state["filters"].to(self.device)
        self._updates = state["updates"]

    def encode(self, frame: Tensor) -> Tensor:
        # What the network sees depends on the object; that is cut out later.
        return frame.float() / 255

    def add(self, encoded: Tensor, masks: Tensor) -> None:
        motions = [Motion(self.options.region, mask) for mask in masks]
        pairs = zip(motions, masks.float(), strict=True)
        learned = self._learn([motion.first_sample(encoded, mask) for motion, mask in pairs])
        sample = [part[:, None] for part in learned]
        filters, scores = self.network.target_model.refit(*sample, steps=self.options.init_steps)
        self.memory.add_objects(*learned, scores[:, 0])
        self.filters = torch.cat([self.filters, filters])
        self.motions += motions

    def trust(self, encoded: Tensor, masks: Tensor) -> None:
        shown = masks.flatten(1).any(1).tolist()
        samples = []
        for place, mask in enumerate(masks):
            if shown[place]:
                motion = self.motions[place] = Motion(self.options.region, mask)
                samples.append(motion.first_sample(encoded, mask.float()))
            else:  # nothing is where it would have been looked for
                region = self.motions[place].region()
                samples.append((region.crop(encoded), region.crop_mask(mask.float())))
        features, labels, weights = self._learn(samples)
        self.memory.trust(shown, features, labels, weights, torch.zeros_like(labels))
        self._refit(None, self.options.init_steps)

    def keep(self, places: list[int]) -> None:
        self.memory.keep(places)
        self.motions = [self.motions[place] for place in places]
        self.filters = self.filters[places]

    def _learn(self, samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Features, labels and weights of images (3, *output) with masks (*output)."""
        images, cropped = (torch.stack(parts) for parts in zip(*samples, strict=True))
        _, features = self.network.extract(images)
        return check_finite(features), *self.network.label_encoder(cropped)

    def track(self, encoded: Tensor) -> Found:
        # The merged probabilities of the previous frame.
        states = (part.tolist() for part in target_state(self.probabilities[1:]))
        for motion, *state in zip(self.motions, *states, strict=True):
            motion.move(*state)
        regions = [motion.region() for motion in self.motions]
        # Objects that share a region, as the whole frame, share its features.
        distinct = list(dict.fromkeys(regions))
        patches = torch.stack([region.crop(encoded) for region in distinct])
        levels, features = self.network.extract(patches)
        shared = [distinct.index(region) for region in regions]
        features = check_finite(features)[shared]
        scores = self.network.target_model.score(self.filters, features[:, None])[:, 0]
        levels = {name: level[shared] for name, level in levels.items()}
        logits = self.network.decode(scores, levels, patches.shape[-2:])
        size = (encoded.shape[1], encoded.shape[2])
        pairs = zip(regions, logits, strict=True)
        pasted = torch.stack([region.paste(each, size) for region, each in pairs])
        return Found(logits=pasted, regions=regions, features=features, scores=scores)

    def update(self, observation: Found, merged: Tensor) -> None:
        pairs = zip(observation.regions, merged, strict=True)
        cropped = torch.stack([region.crop_mask(mask) for region, mask in pairs])
        labels, weights = self.network.label_encoder(cropped)
        self.memory.add_samples(observation.features, labels, weights, observation.scores)
        self._updates += 1
        if self._updates % self.options.update_interval == 0:
            self._refit(self.filters, self.options.update_steps)

    def _refit(self, filters: Tensor | None, steps: int) -> None:
        """Fit the filters, from these or from zero, to the samples in the memory."""
        features, labels, weights, scores, shares = self.memory.samples()
        if not self.options.memory.squared_weights:
            shares = shares.sqrt()
        self.filters, fitted = self.network.target_model.refit(
            features,
            labels,
            weights * shares[:, :, None, None, None],
            filters,
            scores,
            steps=steps,
        )
        # The next update starts from them, without applying the filter to all samples.
        scores.copy_(fitted)

    @torch.no_grad()
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        inside = mask_of_box(frame, box).to(self.device)
        if self.network.box_label_encoder is None:
            raise InputError("box: these weights have no box encoder; start from a mask instead")
        image = self.encode(frame.to(self.device))
        logits = self.network.segment_box(image[None], inside[None].float())
        mask = (logits[0] > 0).byte()
        return (mask if mask.any() else inside).cpu()
