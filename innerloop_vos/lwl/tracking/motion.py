"""Where one object is, and where to look for it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from innerloop_vos.io.masks import mask_to_box
from innerloop_vos.lwl.options import RegionOptions
from innerloop_vos.lwl.tracking.region import (
    Pair,
    SearchRegion,
    first_sample,
    search_region,
    whole_frame,
)

_HALF_CELL = 8
"""Half a feature pixel, in pixels of the search region."""

_STATE = ("frame", "box", "position", "scale", "base_size")


class Motion:
    """The place and the scale of an object, from frame to frame.

    Args:
        options: settings.
        mask: of the object in its first frame, shape (H, W), bool, not empty.
    """

    def __init__(self, options: RegionOptions, mask: Tensor) -> None:
        self.options = options
        self.frame = (mask.shape[0], mask.shape[1])
        self.box = mask_to_box(mask)
        x, y, width, height = self.box
        self.position: Pair = (y + (height - 1) / 2, x + (width - 1) / 2)
        self.scale = (options.search_factor or 1) * math.sqrt(
            width * height / math.prod(options.output)
        )
        self.base_size: Pair = (height / self.scale, width / self.scale)

    @classmethod
    def from_state(cls, options: RegionOptions, state: Mapping[str, Any]) -> "Motion":
        """Make the motion that a `state_dict` is of."""
        motion = cls.__new__(cls)
        motion.options = options
        for name in _STATE:
            setattr(motion, name, state[name])
        return motion

    def state_dict(self) -> dict[str, Any]:
        """Return the place and the scale."""
        return {name: getattr(self, name) for name in _STATE}

    @property
    def size(self) -> Pair:
        """Height and width: those of the first frame, scaled."""
        return self.base_size[0] * self.scale, self.base_size[1] * self.scale

    def first_sample(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cut out what is learned from the first frame.

        Args:
            image: the frame, shape (3, H, W).
            mask: of the object, shape (H, W).

        Returns:
            The image (3, *output) and the mask (*output) of the object's surroundings.
        """
        options = self.options
        if options.search_factor is None:
            region = whole_frame(self.frame, options.output)
            return region.crop(image), region.crop_mask(mask)
        return first_sample(image, mask, self.box, options.output, options.search_factor)

    def move(self, centre: Sequence[float], size: Sequence[float], area: float) -> None:
        """Follow the object's mask, by its `target_state`; a mask too small is not followed."""
        if area < self.options.min_area:
            return
        self.position = (centre[0], centre[1])
        smallest, largest = self.options.scale_change
        change = math.sqrt(math.prod(size) / math.prod(self.size))
        self.scale *= min(max(change, smallest), largest)

    def region(self) -> SearchRegion:
        """Where to look for the object in the next frame."""
        options = self.options
        if options.search_factor is None:
            return whole_frame(self.frame, options.output)
        # Feature map and filter have an even and an odd size: cells and pixels are half a cell off.
        shift = _HALF_CELL * self.scale if options.half_cell_shift else 0.0
        y, x = self.position
        height, width = options.output
        return search_region(
            (y + shift, x + shift),
            (height * self.scale, width * self.scale),
            self.frame,
            options.output,
            options.border,
        )
