"""Tasks to meta-train on: frames of one object, some to learn from and one to be tested on.

All draws come from torch's global generator, so only its state has to be restored.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from innerloop.errors import InputError
from innerloop_vos.data.sampling import MIN_AREA, Sampler, uniform
from innerloop_vos.eosvos.augmentation import augmented
from innerloop_vos.eosvos.finetuning import Batch
from innerloop_vos.eosvos.options import EOSVOSOptions
from innerloop_vos.eosvos.phases import EOSVOSTrainingSettings

_TRIES = 100


class TaskSampler:
    """Draws the frames of tasks at the network's resolution, augmented.

    Colours and mirroring are the same in all frames of a task; every frame is rotated and scaled
    differently.

    Args:
        sampler: draws mini-sequences.
        image_size: frames are resized until their short side has the first number of pixels, or
            their long side the second.
        settings: settings that say in what order frames are, and how strongly they are augmented.
    """

    def __init__(
        self, sampler: Sampler, image_size: tuple[int, int], settings: EOSVOSTrainingSettings
    ) -> None:
        self.sampler, self.image_size, self.in_order = sampler, image_size, settings.in_order
        self.colours = v2.ColorJitter(*[settings.jitter] * 3, hue=settings.jitter / 2)
        low, high = settings.scale
        self.warp = EOSVOSOptions(flip=False, rotation=settings.rotation, scale=(low, high))

    def sample(self) -> Batch:
        """Draw the frames of a task.

        Raises:
            InputError: in a hundred mini-sequences in a row an object was too small to be seen.
        """
        for _ in range(_TRIES):
            drawn = self.sampler.sample()
            count = len(drawn.frames)
            order = range(count) if self.in_order else torch.randperm(count).tolist()
            frames = torch.stack([self._resized(drawn.frames[t]) for t in order])
            masks = [self._resized(drawn.masks[t][None].float())[0] > 0.5 for t in order]
            if min(int(mask.sum()) for mask in masks) > MIN_AREA:
                return self._augmented(frames, masks)
        raise InputError(
            f"clips: in {_TRIES} mini-sequences, none has an object of more than {MIN_AREA} pixels "
            "at the network's resolution"
        )

    def _augmented(self, frames: Tensor, masks: list[Tensor]) -> Batch:
        pairs = [
            augmented(frame, mask, self.warp)
            for frame, mask in zip(self.colours(frames), masks, strict=True)
        ]
        if uniform(0, 1) < 0.5:
            pairs = [(image.flip(-1), mask.flip(-1)) for image, mask in pairs]
        images, found = zip(*pairs, strict=True)
        return Batch(list(images), list(found))

    def _resized(self, image: Tensor) -> Tensor:
        """An image (C, H, W) at the network's resolution, scaled to 0..1 if it is uint8."""
        values = image.float() / 255 if image.dtype == torch.uint8 else image
        short, long = self.image_size
        height, width = image.shape[1:]
        scale = min(short / min(height, width), long / max(height, width))
        size = (round(scale * height), round(scale * width))
        return F.interpolate(
            values[None], size, mode="bilinear", antialias=True, align_corners=False
        )[0]
