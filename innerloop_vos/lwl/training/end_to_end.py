"""The training of LWL: its loss, its steps, and how it measures itself."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop_vos.configuration.options import changed
from innerloop_vos.data.jitter import CropSampler
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.segmenter import LWLSegmenter
from innerloop_vos.lwl.training.losses import LOSSES
from innerloop_vos.lwl.training.pictures import box_pictures, target_pictures
from innerloop_vos.lwl.training.stages import ADJOINTS, LWLTrainingSettings, parameter_groups
from innerloop_vos.lwl.weights import save_lwl
from innerloop_vos.training.boxes import boxes_around
from innerloop_vos.training.loop import Figures, Stateful, Training
from innerloop_vos.training.processes import average_gradients
from innerloop_vos.training.validation import Validation

WEIGHTS = "lwl.safetensors"
_DECAY = 0.2


class LWLTraining(Training):
    """Trains LWL on mini-sequences, through its inner solver.

    The box encoder is trained by itself where its learning rate is above 0: on single frames and
    the boxes around their masks.

    Args:
        network: is changed; moved to `device`.
        sampler: draws mini-sequences of `1 + settings.test_frames` frames; one frame is enough
            for the box encoder.
        validation: see there.
        settings: see there.
        device: where to train. Default: the CPU.

    Raises:
        InputError: a part that is to be trained is missing, or no gradient reaches it.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.6, and 3.7 for boxes; eq. 5 is
        the loss "frames".
    """

    sampler: Sampler

    def __init__(
        self,
        network: LWL,
        sampler: Sampler,
        validation: Validation,
        settings: LWLTrainingSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.validation, self.device = settings, validation, torch.device(device)
        self.network = network.to(self.device)
        self.boxes = settings.box_encoder_rate > 0
        self.sampler, self._start = sampler, sampler.place()
        output = settings.height, settings.width
        self.crops = CropSampler(sampler, output, colours=settings.colours)
        self.optimizer = torch.optim.Adam(parameter_groups(network, settings))

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step; a gradient that is not finite is left out.

        Returns:
            The loss, and the share of gradients that were left out.
        """
        settings = self.settings
        decay = _DECAY ** sum(iteration >= step for step in settings.decay_at)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * decay
        batch = (each.chunk(settings.accumulate) for each in self.crops.batch(settings.batch_size))
        self.optimizer.zero_grad()
        total = 0.0
        for images, masks in zip(*batch, strict=True):
            loss = self._loss(images.to(self.device), masks.to(self.device)) / settings.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        average_gradients(parameters)
        # The unrolled solver divides by norms that may vanish; one such step would spoil all.
        gradients = [each.grad for each in parameters if each.grad is not None]
        finite = bool(torch.nn.utils.get_total_norm(gradients).isfinite())
        if finite:
            self.optimizer.step()
        return {"train/loss": total, "left out/share": float(not finite)}

    def _loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Loss of images (S, F, 3, H, W) with their masks (S, F, H, W)."""
        settings, network = self.settings, self.network.train()
        if self.boxes:
            images, masks = images[:, 0], masks[:, 0]
            logits = network.segment_box(images, boxes_around(masks))
        else:
            logits = network(
                images[:, :1],
                masks[:, :1],
                images[:, 1:],
                steps=settings.init_steps,
                update_steps=settings.update_steps,
                adjoint=ADJOINTS[settings.adjoint],
            )
            masks = masks[:, 1:]
        return settings.loss_weight * LOSSES[settings.loss](logits, masks)

    def rates(self) -> Figures:
        """Return the learning rates of the parts in the last step."""
        return {f"rate/{group['part']}": group["lr"] for group in self.optimizer.param_groups}

    def evaluate(self) -> Figures:
        """Return J and F of the held-out clips."""
        options = changed(LWLOptions(), output=(self.settings.height, self.settings.width))
        segmenter = LWLSegmenter(self.network, options, device=self.device)
        return self.validation.figures(segmenter, boxes=self.boxes)

    def pictures(self) -> dict[str, Tensor]:
        """Return pictures of one and the same mini-sequence, whenever they are made."""
        place = self.sampler.place()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            self.sampler.go_to(self._start)
            images, masks = (part[0].to(self.device) for part in self.crops.batch(1))
        self.sampler.go_to(place)
        if self.boxes:
            return box_pictures(self.network, images[0], boxes_around(masks[:1])[0])
        return target_pictures(self.network, images[[0, -1]], masks[:1], self.settings.init_steps)

    def export(self, folder: Path) -> None:
        """Write the network with all it needs, as `load_lwl` reads it."""
        save_lwl(self.network, folder / WEIGHTS)

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the settings and the sizes of the network."""
        return {"settings": asdict(self.settings), "sizes": self.network.sizes}

    def parts(self) -> dict[str, Stateful]:
        """Return network and optimizer."""
        return {"network": self.network, "optimizer": self.optimizer}
