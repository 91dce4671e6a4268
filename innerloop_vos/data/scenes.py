"""From mini-sequences to network input: augmented whole frames.

All draws come from torch's global generator, so only its state has to be restored.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop_vos.data.augment import affine_matrix, warp_image
from innerloop_vos.data.look import draw_look
from innerloop_vos.data.sampling import MiniSequence, Sampler, uniform

_SIDES = (0.55, 1.0)
"""Of the part that is seen, in units of the largest part of the frame of the wanted shape."""

_DEGREES, _SQUEEZE = 10.0, 0.1
_BLANK, _NOISE = 0.02, 0.03
"""Share of the frames that are blank, and the noise in them at most."""


class SceneSampler:
    """Draws batches of frames.

    Of each frame, a part of it is seen, most of it as a rule, turned a little. The frames of a
    mini-sequence have one look, and are mirrored together. A few frames are blank, of one colour
    but for noise, and show nothing.

    Args:
        sampler: draws the mini-sequences.
        output: height and width of what is seen in pixels.
    """

    def __init__(self, sampler: Sampler, output: tuple[int, int]) -> None:
        self.sampler, self.output = sampler, output

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw a batch.

        Args:
            count: B, number of mini-sequences.

        Returns:
            Images, RGB in 0..1, shape `(B, T, 3, *output)`, and masks, 0 or 1, float32, shape
            `(B, T, *output)`.
        """
        scenes = [self._scene(self.sampler.sample()) for _ in range(count)]
        images, masks = zip(*scenes, strict=True)
        return torch.stack(images), torch.stack(masks)

    def _scene(self, sequence: MiniSequence) -> tuple[Tensor, Tensor]:
        look = draw_look()
        images, masks = [], []
        for frame, mask in zip(sequence.frames, sequence.masks, strict=True):
            if uniform(0, 1) < _BLANK:
                noise = _NOISE * uniform(0, 1) * torch.randn(3, *self.output)
                images.append((torch.rand(3, 1, 1) + noise).clamp(0, 1))
                masks.append(torch.zeros(self.output))
                continue
            # Beyond the border, image and mask are repeated alike.
            both = warp_image(self._part(frame, mask), self._turn())
            image, cut = look(both[:3], (both[3] > 0.5).float())
            images.append(image)
            masks.append(cut)
        return torch.stack(images), torch.stack(masks)

    def _part(self, frame: Tensor, mask: Tensor) -> Tensor:
        """A part of a frame over that of its mask, shape (4, *output)."""
        largest = min(side / o for o, side in zip(self.output, mask.shape, strict=True))
        scale = largest * uniform(*_SIDES)
        inside = []
        for o, length in zip(self.output, mask.shape, strict=True):
            side = max(1, round(o * scale))
            start = int(uniform(0, length - side + 1))
            inside.append(slice(start, start + side))
        both = torch.cat([frame / 255, mask[None]])[:, inside[0], inside[1]]
        return F.interpolate(both[None], self.output, mode="bilinear", antialias=True)[0]

    def _turn(self) -> Tensor:
        squeeze = math.exp(uniform(-_SQUEEZE, _SQUEEZE))
        return affine_matrix(uniform(-_DEGREES, _DEGREES), (squeeze, 1 / squeeze), self.output)
