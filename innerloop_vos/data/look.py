"""How a mini-sequence looks: mirrored or not, its colours and sharpness.

All draws come from torch's global generator, so only its state has to be restored.
"""

import math
from dataclasses import dataclass

from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from innerloop_vos.data.sampling import uniform

_FLIP, _GREY, _BLUR = 0.5, 0.05, 0.1
_COLOUR, _FLICKER = (0.25, 0.2, 0.3), 0.06
"""Brightness, contrast and saturation, of all frames; and of each."""


@dataclass(frozen=True)
class Look:
    """What all frames of a mini-sequence have in common.

    Args:
        flip: whether they are mirrored.
        grey: whether they are without colours.
        colours: factors of brightness, contrast and saturation.
    """

    flip: bool
    grey: bool
    colours: list[float]

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Change an image (3, H, W) in 0..1 and its mask (..., H, W), with a little more chance."""
        brightness, contrast, saturation = (
            each * math.exp(uniform(-_FLICKER, _FLICKER)) for each in self.colours
        )
        image = TF.adjust_contrast((image * brightness).clamp(0, 1), contrast)
        image = TF.adjust_saturation(image, saturation)
        if self.grey:
            image = TF.rgb_to_grayscale(image, num_output_channels=3)
        if uniform(0, 1) < _BLUR:
            image = TF.gaussian_blur(image, [3, 3])
        return (image.flip(-1), mask.flip(-1)) if self.flip else (image, mask)


def draw_look() -> Look:
    """Draw how a mini-sequence looks."""
    flip, grey = uniform(0, 1) < _FLIP, uniform(0, 1) < _GREY
    return Look(flip, grey, [1 + uniform(-bound, bound) for bound in _COLOUR])
