"""Segmentation of video by LWL: the networks, and the state that they are run with."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.backbones.joining import check_finite
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.tracking.memory import TargetMemory
from innerloop_vos.lwl.tracking.moments import target_state
from innerloop_vos.lwl.tracking.motion import Motion, box_region
from innerloop_vos.lwl.tracking.region import SearchRegion
from innerloop_vos.lwl.tracking.trust import appears, out_of_sight
from innerloop_vos.lwl.tracking.views import Views
from innerloop_vos.segmenter import Observation, Segmenter, mask_of_box

_ABSENT = -6.0
"""Greatest logit where the object cannot be."""


@dataclass(frozen=True, kw_only=True)
class Found(Observation):
    """What LWL finds in a frame.

    Attributes:
        present: as of `Observation`, never None.
        regions: where each object was looked for.
        scores: the target scores there, as the decoder sees them, shape (O, D, h, w).
        features: that the filters saw, shape (O * views, C, h, w).
        filter_scores: target scores of each filter, shape (O * views, D, h, w).
    """

    present: Tensor
    regions: list[SearchRegion]
    scores: Tensor
    features: Tensor
    filter_scores: Tensor


class LWLSegmenter(Segmenter):
    """Learning What to Learn on video; all objects are solved and decoded in one batch.

    Args:
        network: the networks; moved to `device`.
        options: settings for videos that start from a mask. Default: the network's preset.
        box_options: settings for videos whose first masks were found in boxes. Default: likewise.
        device: where the work is done. Default: the CPU.
        autocast: precision of the backbone, the projection and the decoder, `torch.bfloat16` or
            `torch.float16`. Default: that of the weights. The label encoder and the solver always
            have the latter.

    Raises:
        InputError: the options ask for what the network does not have.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, section 3.5.
    """

    def __init__(
        self,
        network: LWL,
        options: LWLOptions | None = None,
        box_options: LWLOptions | None = None,
        device: torch.device | str = "cpu",
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(device)
        self.network = network.eval().to(self.device)
        self.mask_options = options or network.preset.mask
        self.box_options = box_options or network.preset.box
        for setting in (self.mask_options, self.box_options):
            setting.check_possible(
                corrects=network.decoder.corrects, colours=network.colours is not None
            )
        self._autocast = torch.autocast(
            self.device.type, dtype=autocast, enabled=autocast is not None
        )

    def reset(self) -> None:
        self.options = self.box_options if self.from_boxes else self.mask_options
        options = self.options
        memory = options.memory
        self.memory = TargetMemory(memory.capacity, memory.learning_rate, memory.first_weight)
        self.motions: list[Motion] = []
        # Of an object, as many filters as views, side by side; likewise in the memory.
        self.views = Views(self.network.target_model, options.trust.consensus)
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
        self.motions = [Motion.from_state(self.options, each) for each in state["motions"]]
        self.filters = state["filters"].to(self.device)
        self._updates = state["updates"]

    def encode(self, frame: Tensor) -> Tensor:
        # What the network sees depends on the object; that is cut out later.
        return frame.float() / 255

    def add(self, encoded: Tensor, masks: Tensor) -> None:
        motions = [Motion(self.options, mask) for mask in masks]
        samples = [
            motion.first_samples(encoded, mask.float())
            for motion, mask in zip(motions, masks, strict=True)
        ]
        # (O, F, 3, H, W) and (O, F, H, W)
        images, cropped = (torch.stack(parts) for parts in zip(*samples, strict=True))
        with self._autocast:
            _, features = self.network.extract(images.flatten(0, 1))
        check_finite(features)
        features = self.views.of(features.reshape(*images.shape[:2], *features.shape[1:]))
        labels, weights = self.views.repeated(self.network.label_encoder(cropped))
        # Together they weigh as much as one.
        weights = weights / math.sqrt(images.shape[1])
        filters, scores = self.network.target_model.refit(
            features, labels, weights, steps=self.options.init_steps
        )
        self.memory.add_objects(features, labels, weights, scores)
        self.filters = torch.cat([self.filters, filters])
        self.motions += motions

    def track(self, encoded: Tensor) -> Found:
        # The merged probabilities of the previous frame.
        states = (part.tolist() for part in target_state(self.probabilities[1:]))
        for motion, *state in zip(self.motions, *states, strict=True):
            motion.move(*state)
        regions = [motion.region() for motion in self.motions]
        # Objects that share a region, as the whole frame, share its features.
        distinct = list(dict.fromkeys(regions))
        patches = torch.stack([region.crop(encoded) for region in distinct])
        with self._autocast:
            levels, features = self.network.extract(patches)
        check_finite(features)
        shared = [distinct.index(region) for region in regions]
        levels = {name: level[shared] for name, level in levels.items()}
        seen = self.views.of(features[shared])
        filter_scores = self.network.target_model.score(self.filters, seen[:, None])[:, 0]
        scores, learned = self.views.merged(filter_scores)
        with self._autocast:
            logits = self.network.decoder(scores, levels, patches[shared]).float()
        size = (encoded.shape[1], encoded.shape[2])
        found = _paste(logits, regions, size)
        trust = self.options.trust
        present = appears(learned, trust.presence)
        before = self.probabilities[1:] > 0.5
        least = self.options.region.min_area
        nowhere = out_of_sight(found, before, present, trust.reach, least)
        found[nowhere] = found[nowhere].clamp(max=_ABSENT)
        learn_mask = None
        if trust.learn_from == "scores":
            uncorrected = self.network.decoder.uncorrected(learned, patches[shared])
            uncorrected = _paste(uncorrected, regions, size)
            uncorrected[nowhere] = uncorrected[nowhere].clamp(max=_ABSENT)
            learn_mask = uncorrected.sigmoid()
        return Found(
            logits=found,
            learn_mask=learn_mask,
            present=present,
            regions=regions,
            scores=scores,
            features=seen,
            filter_scores=filter_scores,
        )

    def update(self, observation: Found, merged: Tensor) -> None:
        learn_mask = merged if observation.learn_mask is None else observation.learn_mask
        pairs = zip(observation.regions, learn_mask, strict=True)
        cropped = torch.stack([region.crop_mask(mask) for region, mask in pairs])
        learned = self.network.label_encoder(cropped)
        labels, weights, present = self.views.repeated([*learned, observation.present])
        samples = (observation.features, labels, weights, observation.filter_scores)
        self.memory.add_samples(*samples, of=present)
        self._updates += 1
        if self._updates % self.options.update_interval or not present.any():
            return
        features, labels, weights, scores, shares = self.memory.samples()
        if not self.options.memory.squared_weights:
            shares = shares.sqrt()
        filters, fitted = self.network.target_model.refit(
            features,
            labels,
            weights * shares[:, :, None, None, None],
            self.filters,
            scores,
            steps=self.options.update_steps,
        )
        self.filters = torch.where(present.view(-1, 1, 1, 1, 1), filters, self.filters)
        # The next update starts from them, without applying the filter to all samples.
        scores[present] = fitted[present]

    @torch.no_grad()
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        inside = mask_of_box(frame, box).to(self.device)
        if self.network.box_label_encoder is None:
            raise InputError("box: these weights have no box encoder; start from a mask instead")
        image = self.encode(frame.to(self.device))
        region = box_region(self.box_options, inside)
        patch, there = region.crop(image), region.crop_mask(inside.float())
        with self._autocast:
            logits = self.network.segment_box(patch[None], there[None])
        mask = (region.paste(logits[0], (frame.shape[1], frame.shape[2])) > 0).byte()
        return (mask if mask.any() else inside).cpu()


def _paste(logits: Tensor, regions: list[SearchRegion], size: tuple[int, int]) -> Tensor:
    """Logits (O, H, W) in the frame of logits (O, *output) in the objects' regions."""
    pairs = zip(regions, logits, strict=True)
    return torch.stack([region.paste(score, size) for region, score in pairs])
