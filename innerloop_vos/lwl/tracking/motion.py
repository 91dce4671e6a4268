"""Where one object is, and where to look for it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop_vos.configuration.options import changed
from innerloop_vos.io.masks import mask_to_box
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.tracking.region import (
    Pair,
    SearchRegion,
    first_sample,
    search_region,
    whole_frame,
)

_HALF_CELL = 8
"""Half a feature pixel, in pixels of the search region."""

_STATE = ("frame", "box", "position", "scale", "base_size", "_spread")


class Motion:
    """The place and the scale of an object, from frame to frame.

    Args:
        options: settings.
        mask: of the object in its first frame, shape (H, W), bool, not empty.
    """

    def __init__(self, options: LWLOptions, mask: Tensor) -> None:
        self.options = options
        self.frame = (mask.shape[0], mask.shape[1])
        self.box = mask_to_box(mask)
        x, y, width, height = self.box
        self.position: Pair = (y + (height - 1) / 2, x + (width - 1) / 2)
        self.scale = (options.region.search_factor or 1) * math.sqrt(
            width * height / math.prod(options.region.output)
        )
        self.base_size: Pair = (height / self.scale, width / self.scale)
        self._spread = 1.0

    @classmethod
    def from_state(cls, options: LWLOptions, state: Mapping[str, Any]) -> "Motion":
        """Make the target that a `state_dict` is of."""
        target = cls.__new__(cls)
        target.options = options
        for name in _STATE:
            setattr(target, name, state[name])
        return target

    def state_dict(self) -> dict[str, Any]:
        """Return the place and the scale."""
        return {name: getattr(self, name) for name in _STATE}

    @property
    def size(self) -> Pair:
        """Height and width: those of the first frame, scaled."""
        return self.base_size[0] * self.scale, self.base_size[1] * self.scale

    def first_samples(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cut out what is learned from the first frame.

        Args:
            image: the frame, shape (3, H, W).
            mask: of the object, shape (H, W).

        Returns:
            Images (F, 3, *output) and masks (F, *output): the object's surroundings, and with
            `mirror` those mirrored.
        """
        options = self.options
        if options.region.search_factor is None:
            region = whole_frame(self.frame, options.region.output)
            pair = region.crop(image), region.crop_mask(mask)
        else:
            pair = first_sample(
                image, mask, self.box, options.region.output, options.region.search_factor
            )
        if not options.memory.mirror:
            return pair[0][None], pair[1][None]
        patch, there = (torch.stack([part, part.flip(-1)]) for part in pair)
        return patch, there

    def move(self, centre: Sequence[float], size: Sequence[float], area: float) -> None:
        """Follow the object's mask, by its `target_state`; a mask too small is not followed.

        An object that may be absent (`presence`) is then looked for ever further around.
        """
        smallest, largest = self.options.region.scale_change
        if area < self.options.region.min_area:
            covered = self._region_scale**2 * math.prod(self.options.region.output)
            # From twice the frame's sides on, there is nothing more to see.
            if self.options.trust.presence is not None and covered < 4 * math.prod(self.frame):
                self._spread *= largest
            return
        self._spread = 1.0
        self.position = (centre[0], centre[1])
        change = math.sqrt(math.prod(size) / math.prod(self.size))
        self.scale *= min(max(change, smallest), largest)

    @property
    def _region_scale(self) -> float:
        """Pixels of the frame per pixel of the search region."""
        return self.scale * self._spread

    def region(self) -> SearchRegion:
        """Where to look for the object in the next frame."""
        options = self.options
        if options.region.search_factor is None:
            return whole_frame(self.frame, options.region.output)
        # Feature map and filter have an even and an odd size: cells and pixels are half a cell off.
        scale = self._region_scale
        shift = _HALF_CELL * scale if options.region.half_cell_shift else 0.0
        y, x = self.position
        height, width = options.region.output
        return search_region(
            (y + shift, x + shift),
            (height * scale, width * scale),
            self.frame,
            options.region.output,
            options.region.border,
        )


def box_region(options: LWLOptions, inside: Tensor) -> SearchRegion:
    """Where the mask of the object in a box is looked for.

    Args:
        options: settings.
        inside: 1 inside the box and 0 outside, shape (H, W).
    """
    frame = (inside.shape[0], inside.shape[1])
    if options.box.box_factor is None:
        return whole_frame(frame, frame)
    there = changed(
        options,
        search_factor=options.box.box_factor,
        output=options.box.box_output,
        half_cell_shift=False,
    )
    return Motion(there, inside).region()
