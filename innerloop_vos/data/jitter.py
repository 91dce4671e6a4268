"""From mini-sequences to network input: jittered, augmented crops around the object.

All draws come from torch's global generator, so only its state has to be restored.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from innerloop.errors import InputError
from innerloop_vos.data.augment import Box, affine_matrix, target_crop, warp_image, warp_mask
from innerloop_vos.data.sampling import MIN_AREA, MiniSequence, Sampler, uniform
from innerloop_vos.io.masks import mask_to_box

_TRIES = 100
_GREY, _FLIP = 0.05, 0.5
_DEGREES, _ZOOM, _BRIGHTNESS = 15.0, 0.2, 0.2


@dataclass(frozen=True)
class Jitter:
    """How far a crop may be off the object.

    Args:
        centre: max distance along x and along y, in units of half the object's side.
        size: standard deviation of the logarithm of the object's width and of its height.
    """

    centre: tuple[float, float]
    size: float

    def __call__(self, box: Box) -> Box:
        """Draw a box around that of the object."""
        x, y, width, height = box
        reach = 0.5 * math.sqrt(width * height)
        middle_x = x + width / 2 + reach * self.centre[0] * uniform(-1, 1)
        middle_y = y + height / 2 + reach * self.centre[1] * uniform(-1, 1)
        growth = (self.size * torch.randn(2)).exp().tolist()
        width, height = width * growth[0], height * growth[1]
        return middle_x - width / 2, middle_y - height / 2, width, height


TRAIN_JITTER = Jitter((3.0, 3.0), 0.25)
"""Jitter of the frames that the target model learns from, in the released LWL."""

TEST_JITTER = Jitter((5.5, 4.5), 0.5)
"""Jitter of the frames that are segmented, in the released LWL."""


class CropSampler:
    """Draws batches of crops of five times the object's side.

    Args:
        sampler: draws the mini-sequences.
        output: height and width of the crops in pixels.
        colours: whether colours change, as in the released system. Default True.

    Source:
        The released LWL: a mini-sequence is grey with probability 0.05 and mirrored with 0.5, a
        frame is rotated by up to 15 degrees, scaled along each axis by exp(-0.2) to exp(0.2) and
        made up to 20 percent brighter or darker.
    """

    def __init__(self, sampler: Sampler, output: tuple[int, int], *, colours: bool = True) -> None:
        self.sampler, self.output, self.colours = sampler, output, colours

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw a batch.

        Args:
            count: B, number of mini-sequences.

        Returns:
            Images, RGB in 0..1, shape `(B, F, 3, *output)`, and masks, 0 or 1, float32, shape
            `(B, F, *output)`.

        Raises:
            InputError: a hundred mini-sequences in a row lost their object in cropping.
        """
        images, masks = zip(*(self._sample() for _ in range(count)), strict=True)
        return torch.stack(images), torch.stack(masks)

    def _sample(self) -> tuple[Tensor, Tensor]:
        for _ in range(_TRIES):
            images, masks = self._crop(self.sampler.sample())
            # Nothing can be learned from a mask without object.
            if masks[0].sum() > MIN_AREA:
                return images, masks
        raise InputError(
            f"clips: in {_TRIES} mini-sequences, none has an object of more than {MIN_AREA} pixels "
            f"in its first crop, {self.output[1]}x{self.output[0]} pixels (width x height)"
        )

    def _crop(self, sequence: MiniSequence) -> tuple[Tensor, Tensor]:
        grey, flip = uniform(0, 1) < _GREY, uniform(0, 1) < _FLIP
        images, masks = [], []
        for index, (frame, mask) in enumerate(zip(sequence.frames, sequence.masks, strict=True)):
            if grey and self.colours:
                frame = TF.rgb_to_grayscale(frame, num_output_channels=3)
            jitter = TEST_JITTER if index else TRAIN_JITTER
            size = (mask.shape[0], mask.shape[1])
            crop = target_crop(jitter(mask_to_box(mask)), size, self.output)
            image, cropped = augment(
                crop.image(frame.float() / 255), crop.mask(mask.float()), colours=self.colours
            )
            images.append(image.flip(-1) if flip else image)
            masks.append(cropped.flip(-1) if flip else cropped)
        return torch.stack(images), torch.stack(masks)


def augment(image: Tensor, mask: Tensor, *, colours: bool = True) -> tuple[Tensor, Tensor]:
    """Rotate, scale and brighten an image (3, H, W) in 0..1, and turn its mask (H, W) alike.

    Args:
        image: the image.
        mask: its mask.
        colours: whether to brighten it. Default True.
    """
    scale = math.exp(uniform(-_ZOOM, _ZOOM)), math.exp(uniform(-_ZOOM, _ZOOM))
    matrix = affine_matrix(uniform(-_DEGREES, _DEGREES), scale, (mask.shape[0], mask.shape[1]))
    brightness = uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)
    warped = warp_image(image, matrix)
    if not colours:
        return warped, warp_mask(mask, matrix)
    return (warped * brightness).clamp(0, 1), warp_mask(mask, matrix)
