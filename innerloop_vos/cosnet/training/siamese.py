"""COSNet trained on pairs of frames and on single images, in turns."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from innerloop_vos.backbones.folded import tuned_convolutions
from innerloop_vos.cosnet.model.network import COSNet
from innerloop_vos.cosnet.options import COSNetOptions
from innerloop_vos.cosnet.segmenter import COSNetSegmenter
from innerloop_vos.cosnet.training.losses import balanced_cross_entropy, lovasz
from innerloop_vos.cosnet.training.settings import COSNetSettings
from innerloop_vos.cosnet.weights import save_cosnet
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.data.scenes import SceneSampler
from innerloop_vos.training.loop import Figures, Stateful, Training, cosine_rate
from innerloop_vos.training.processes import average_gradients
from innerloop_vos.training.validation import UnsupervisedValidation

WEIGHTS = "cosnet.safetensors"


class COSNetTraining(Training):
    """Trains COSNet to find the primary objects: steps on pairs and on images take turns.

    An image step trains all but the co-attention, as the summary of an image is empty.

    Args:
        network: is changed; moved to `device`.
        videos: draws pairs of frames of a video. None: every step is on images.
        images: draws single images. None: every step is on pairs. One of both is given.
        validation: see there.
        settings: see there.
        device: where to train. Default: the CPU.

    Source:
        Slide "COSNet: Training", where images train the backbone with a convolution of their own
        in place of the segmentation module.
    """

    def __init__(
        self,
        network: COSNet,
        videos: Sampler | None,
        images: Sampler | None,
        validation: UnsupervisedValidation,
        settings: COSNetSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.validation, self.device = settings, validation, torch.device(device)
        self.network = network.to(self.device)
        self.network.autocast = torch.bfloat16 if settings.bfloat16 else None
        size = settings.height, settings.width
        turns = ((videos, settings.batch_size), (images, 2 * settings.batch_size))
        self.turns = [(SceneSampler(kind, size), count) for kind, count in turns if kind]
        self.optimizer = torch.optim.AdamW(
            list(_groups(network, settings)), weight_decay=settings.weight_decay
        )

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step.

        Returns:
            The cross-entropy and the Lovász loss.
        """
        settings = self.settings
        self.network.train()
        factor = cosine_rate(iteration, settings.iterations, warmup=settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        scenes, count = self.turns[iteration % len(self.turns)]
        images, masks = (part.to(self.device) for part in scenes.batch(count))
        logits, masks = self.network(images).flatten(0, 1), masks.flatten(0, 1)
        entropy = balanced_cross_entropy(logits, masks, settings.balance)
        region = lovasz(logits, masks)
        self.optimizer.zero_grad()
        loss: Tensor = entropy + settings.lovasz * region
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        if norm.isfinite():
            self.optimizer.step()
        return {
            "train/cross-entropy": entropy.item(),
            "train/lovasz": region.item(),
            "left out/share": float(not norm.isfinite()),
        }

    def rates(self) -> Figures:
        """Return the learning rate of the last step."""
        return {"rate/head": self.optimizer.param_groups[0]["lr"]}

    def evaluate(self) -> Figures:
        """Return J and F of the held-out clips."""
        options = COSNetOptions(half=self.settings.bfloat16)
        return self.validation.figures(COSNetSegmenter(self.network, options, self.device))

    def export(self, folder: Path) -> None:
        """Write the network with all it needs, as `load_cosnet` reads it."""
        save_cosnet(self.network, folder / WEIGHTS)

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the settings and the sizes of the network."""
        return {"settings": asdict(self.settings), "sizes": self.network.sizes}

    def parts(self) -> dict[str, Stateful]:
        """Return network and optimizer."""
        return {"network": self.network, "optimizer": self.optimizer}


def _groups(network: COSNet, settings: COSNetSettings) -> Iterator[dict[str, Any]]:
    """Freeze what the settings do not train, and group the rest by learning rate."""
    network.backbone.requires_grad_(False)
    own = [p for name, p in network.named_parameters() if not name.startswith("backbone.")]
    yield {"params": own, "lr": settings.rate, "base": settings.rate}
    if settings.backbone_rate:
        tuned: list[nn.Module] = tuned_convolutions(network.backbone)
        parameters = [p.requires_grad_(True) for module in tuned for p in module.parameters()]
        yield {"params": parameters, "lr": settings.backbone_rate, "base": settings.backbone_rate}
