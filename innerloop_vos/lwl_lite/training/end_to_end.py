"""The training of LWL-lite: through the closed form, over frames that it tracks itself."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones.folded import tuned_convolutions
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.data.windows import WindowSampler
from innerloop_vos.lwl_lite.memory import TargetMemory
from innerloop_vos.lwl_lite.model.network import LWLLite
from innerloop_vos.lwl_lite.options import LWLLiteOptions
from innerloop_vos.lwl_lite.segmenter import LWLLiteSegmenter
from innerloop_vos.lwl_lite.training.errors import with_errors
from innerloop_vos.lwl_lite.training.settings import LWLLiteSettings
from innerloop_vos.lwl_lite.weights import save_lwl_lite
from innerloop_vos.training.boxes import boxes_around
from innerloop_vos.training.loop import Figures, Stateful, Training, cosine_rate
from innerloop_vos.training.losses import lovasz_sigmoid
from innerloop_vos.training.processes import average_gradients
from innerloop_vos.training.validation import Validation

WEIGHTS = "lwl_lite.safetensors"
_FIRST_WINDOWS = 24
"""Mini-sequences whose features the projection starts from."""

_AROUND_BOXES = (1.2, 3.0)
"""Sides of the windows in which masks in boxes are found, in units of the boxes'."""


class LWLLiteTraining(Training):
    """Trains LWL-lite to track, learning from its own masks, as it will.

    Args:
        network: is changed; moved to `device`.
        sampler: draws mini-sequences of `settings.frames` frames.
        validation: see there.
        settings: see there.
        fresh: whether the projection is to start from principal components.
        device: where to train. Default: the CPU.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.6.
    """

    def __init__(
        self,
        network: LWLLite,
        sampler: Sampler,
        validation: Validation,
        settings: LWLLiteSettings,
        *,
        fresh: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.validation, self.device = settings, validation, torch.device(device)
        self.network = network.to(self.device)
        self.network.autocast = torch.bfloat16 if settings.bfloat16 else None
        self.options = LWLLiteOptions(half=settings.bfloat16)
        self.boxes = settings.box_rate > 0
        around = _AROUND_BOXES if self.boxes else None
        self.windows = WindowSampler(sampler, (settings.height, settings.width), around)
        self.optimizer = torch.optim.AdamW(
            list(_groups(network, settings)), weight_decay=settings.weight_decay
        )
        self._fresh = fresh

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step.

        Returns:
            The cross-entropy and the Lovász loss.
        """
        settings = self.settings
        self.network.train()
        if iteration == 0 and self._fresh:
            self._start_projection()
        factor = cosine_rate(iteration, settings.iterations, warmup=settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        images, masks = (part.to(self.device) for part in self.windows.batch(settings.batch_size))
        entropy, lovasz = _losses(*self._tracked(images, masks))
        self.optimizer.zero_grad()
        loss: Tensor = settings.cross_entropy * entropy + lovasz
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        if norm.isfinite():
            self.optimizer.step()
        return {
            "train/cross-entropy": entropy.item(),
            "train/lovasz": lovasz.item(),
            "left out/share": float(not norm.isfinite()),
        }

    def _tracked(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of some frames of images (S, T, 3, H, W), and their masks (S, any, H, W)."""
        network = self.network
        if self.boxes:
            seen = network.see(images[:, 0])
            return network.segment_box(seen, boxes_around(masks[:, 0]))[:, None], masks[:, :1]
        memory = TargetMemory(self.options.learning_rate, self.options.first_weight)
        errors = partial(with_errors, share=self.settings.errors)
        return network(images, masks[:, 0], memory, errors), masks[:, 1:]

    @torch.no_grad()
    def _start_projection(self) -> None:
        images, _ = self.windows.batch(_FIRST_WINDOWS)
        images = images[:, 0].to(self.device)
        self.network.target_features.start_from(self.network.backbone(images), images)

    def rates(self) -> Figures:
        """Return the learning rate of the last step."""
        return {"rate/decoder": self.optimizer.param_groups[0]["lr"]}

    def evaluate(self) -> Figures:
        """Return J and F of the held-out clips."""
        segmenter = LWLLiteSegmenter(self.network, self.options, self.device)
        return self.validation.figures(segmenter, boxes=self.boxes)

    def export(self, folder: Path) -> None:
        """Write the network with all it needs, as `load_lwl_lite` reads it."""
        save_lwl_lite(self.network, folder / WEIGHTS)

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the settings and the sizes of the network."""
        return {"settings": asdict(self.settings), "sizes": self.network.sizes}

    def parts(self) -> dict[str, Stateful]:
        """Return network and optimizer."""
        return {"network": self.network, "optimizer": self.optimizer}


def _losses(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy, and the Lovász loss averaged over the images that show the object."""
    entropy = F.binary_cross_entropy_with_logits(logits, masks)
    pairs = zip(logits.flatten(0, 1), masks.flatten(0, 1), strict=True)
    shown = [lovasz_sigmoid(*pair) for pair in pairs if pair[1].any()]
    return entropy, torch.stack(shown).mean() if shown else entropy.new_zeros(())


def _groups(network: LWLLite, settings: LWLLiteSettings) -> Iterator[dict[str, Any]]:
    """Freeze what the settings do not train, and group the rest by learning rate."""
    network.requires_grad_(False)
    if settings.box_rate:
        box = [p.requires_grad_(True) for p in network.box_encoder.parameters()]
        yield {"params": box, "lr": settings.box_rate, "base": settings.box_rate}
        return
    parts: list[tuple[list[nn.Module], float, dict[str, Any]]] = [
        ([network.decoder, network.label_encoder], settings.rate, {}),
        ([network.target_features], settings.projection_rate, {}),
        ([network.target_model], settings.regularization_rate, {"weight_decay": 0.0}),
        (tuned_convolutions(network.backbone), settings.backbone_rate, {}),
    ]
    for modules, rate, more in parts:
        if rate:
            parameters = [p.requires_grad_(True) for m in modules for p in m.parameters()]
            yield {"params": parameters, "lr": rate, "base": rate, **more}
