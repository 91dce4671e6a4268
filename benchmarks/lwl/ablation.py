"""What would help LWL-lite on top of what it learned? Three rules, one at a time.

Segments the sequences that LWL-lite was not trained on. Prints a table: J and F in percent, and the
median CPU time of the first frame and of a later one. Writes ablation.json.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.lwl.ablation --davis ROOT
    ... --davis ROOT --sequences motocross-bumps --output runs/motocross  # where presence errs
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.lwl.parts.tracking import HELD_OUT, add_clip_arguments, compare
from innerloop_vos.lwl_lite import LWLLiteSegmenter, lwl_lite
from innerloop_vos.lwl_lite.model.network import Seen

_TRUSTED, _PRESENT = 0.3, 0.4
_ABSENT = -6.0  # logit


class _Anchored(LWLLiteSegmenter):
    def anchor(self, seen: Seen) -> Tensor:
        """Scores (O, h, w) of the filters that know the first frame alone."""
        return self.network.target_model.score(self.anchors, seen.features)[:, 0]


class Trust(_Anchored):
    """Nothing is learned from pixels of the mask that the anchor does not know."""

    def update(self, observation: Any, merged: Tensor) -> None:
        seen, model = observation.seen, self.network.target_model
        masks = F.interpolate(merged[None], seen.images.shape[-2:], mode="area")[0]
        labels, weights = self.network.label_encoder(masks)
        known = (labels[:, :1] <= 0.5) | (self.anchor(seen)[:, None] >= _TRUSTED)
        features = seen.features.expand(len(masks), -1, -1, -1)
        visible = (merged > 0.5).sum((1, 2)) >= self.options.min_area
        self.memory.add(model.statistics(features, labels, weights * known), of=visible)
        self.filters = model.fit(self.memory.statistics())


class Presence(_Anchored):
    """An object that the anchor hardly knows, on average over its mask, is absent."""

    def track(self, encoded: Any) -> Any:
        found = super().track(encoded)
        scores = self.anchor(encoded.seen)
        masks = F.interpolate(found.logits.sigmoid()[None], scores.shape[-2:], mode="area")[0]
        mean = (scores * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1e-6)
        found.logits[mean < _PRESENT] = _ABSENT
        return found


class SecondView(LWLLiteSegmenter):
    """The first frame is learned mirrored too; both count half."""

    def add(self, encoded: Any, masks: Tensor) -> None:
        masks, mirrored = masks.float(), self.network.see(encoded.seen.images.flip(-1))
        views = self._learn(encoded.seen, masks), self._learn(mirrored, masks.flip(-1))
        self.memory.start(views[0].scaled(0.5) + views[1].scaled(0.5))
        self.filters = self.network.target_model.fit(self.memory.statistics())
        self.anchors = torch.cat([self.anchors, self.filters[len(self.anchors) :, :1]])


VARIANTS = {
    "as it is": LWLLiteSegmenter,
    "trust": Trust,
    "presence": Presence,
    "second view": SecondView,
}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_clip_arguments(parser, HELD_OUT)
    parser.set_defaults(every=1)
    default = Path(__file__).parent / "results" / "ablation"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args(words)
    segmenters = ((name, kind(lwl_lite("default"))) for name, kind in VARIANTS.items())
    compare(segmenters, arguments, arguments.output / "ablation.json")


if __name__ == "__main__":
    main()
