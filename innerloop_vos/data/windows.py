"""From mini-sequences to network input: one augmented window of the frames that follows an object.

All draws come from torch's global generator, so only its state has to be restored.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop_vos.data.augment import affine_matrix, warp_image
from innerloop_vos.data.look import draw_look
from innerloop_vos.data.sampling import Sampler, uniform
from innerloop_vos.io.masks import mask_to_box

_TRIES = 100
_LEAST, _MOST = 200, 0.7
"""Pixels, and share of the window, that an object covers in the first frame."""

_LARGEST = 2.5
"""Pixels of the window per pixel of a frame."""

_ELSEWHERE = 0.1
"""Share of the later frames whose window lies anywhere, so that the object may be out of sight."""

_OFF_CENTRE, _SHAKE = 0.35, 0.08
"""Of the window's place, in units of its sides: of all frames, and of each."""

_ZOOM, _SQUEEZE, _DEGREES, _SHIFT = 0.12, 0.05, 10.0, (0.07, 0.08)
"""Of the motion from frame to frame of images, which have none of their own; clips get a share."""

_CLIP_SHARE = 0.3


class WindowSampler:
    """Draws batches of windows.

    A window is between the whole frame and as many pixels as it has itself, and the object in the
    first frame fits into it. It follows the object, which is not in its middle. What moves in an
    image, of which all frames of a mini-sequence are copies, is the window.

    Args:
        sampler: draws the mini-sequences.
        output: height and width of the windows in pixels.
        around: sides of a window in units of the object's, drawn between these two bounds, for
            windows around the object. Default: as above.
    """

    def __init__(
        self,
        sampler: Sampler,
        output: tuple[int, int],
        around: tuple[float, float] | None = None,
    ) -> None:
        self.sampler, self.output, self.around = sampler, output, around

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw a batch.

        Args:
            count: B, number of mini-sequences.

        Returns:
            Images, RGB in 0..1, shape `(B, T, 3, *output)`, and masks, 0 or 1, float32, shape
            `(B, T, *output)`.

        Raises:
            InputError: a hundred mini-sequences in a row lost their object.
        """
        images, masks = zip(*(self._sample() for _ in range(count)), strict=True)
        return torch.stack(images), torch.stack(masks)

    def _sample(self) -> tuple[Tensor, Tensor]:
        for _ in range(_TRIES):
            sequence = self.sampler.sample()
            images, masks = self.cut(sequence.frames, [mask[None] for mask in sequence.masks])
            if can_be_followed(masks[0, 0]):
                return images, masks[:, 0]
        raise InputError(
            f"clips: in {_TRIES} mini-sequences, no object covers more than {_LEAST} pixels of a "
            f"window of {self.output[1]}x{self.output[0]} (width x height)"
        )

    def cut(self, frames: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Cut an augmented window out of frames.

        Args:
            frames: each of shape `(3, H, W)`, uint8 RGB.
            masks: each of shape `(O, H, W)`, bool, of several objects, of which the first is
                followed; the first frame shows it.

        Returns:
            Images, RGB in 0..1, shape `(T, 3, *output)`, and masks, 0 or 1, float32, shape
            `(T, O, *output)`.
        """
        still = all(frame is frames[0] for frame in frames)
        sides = self._sides(masks[0][0])
        off = _OFF_CENTRE if self.around is None else _SHAKE
        place = [uniform(-off, off) for _ in sides]
        look = draw_look()
        motion, middle = torch.zeros(5), [0.0, 0.0]
        images, windows = [], []
        for index, (frame, shown) in enumerate(zip(frames, masks, strict=True)):
            if shown[0].any():  # otherwise the window stays where it is
                x, y, width, height = mask_to_box(shown[0])
                middle = [y + height / 2, x + width / 2]
            shake = _SHAKE if index else 0.0
            centre = [
                c + side * (off + uniform(-shake, shake))
                for c, side, off in zip(middle, sides, place, strict=True)
            ]
            if index and uniform(0, 1) < _ELSEWHERE:
                centre = [uniform(0, side) for side in shown.shape[1:]]
            both = self._cut(frame, shown, sides, centre)
            if index:
                motion += 2 * torch.rand(5) - 1
            # Beyond the border, image and mask are repeated alike.
            both = warp_image(both, self._motion(motion, 1.0 if still else _CLIP_SHARE))
            image, cut = look(both[:3], (both[3:] > 0.5).float())
            images.append(image)
            windows.append(cut)
        return torch.stack(images), torch.stack(windows)

    def _sides(self, mask: Tensor) -> list[float]:
        """Height and width of the window, in pixels of the frames."""
        ratios = [o / side for o, side in zip(self.output, mask.shape, strict=True)]
        whole = max(ratios)
        _, _, width, height = mask_to_box(mask)
        if self.around is not None:
            scale = min(self.output[0] / height, self.output[1] / width) / uniform(*self.around)
            scale = max(scale, whole)
        else:
            scale = math.exp(uniform(min(math.log(whole), 0), math.log(max(1.1, 1.3 * whole))))
            fits = 1.1 * max(self.output[0] / height, self.output[1] / width)
            scale = max(min(scale, fits, _LARGEST), whole)
        return [min(o / scale, side) for o, side in zip(self.output, mask.shape, strict=True)]

    def _cut(self, frame: Tensor, masks: Tensor, sides: list[float], centre: list[float]) -> Tensor:
        """A window of a frame, moved inside it, over one of its masks, shape (3 + O, *output)."""
        inside = []
        for c, side, length in zip(centre, sides, masks.shape[1:], strict=True):
            start = int(min(max(c - side / 2, 0), length - side))
            inside.append(slice(start, min(length, start + max(1, int(side)))))
        both = torch.cat([frame / 255, masks])[:, inside[0], inside[1]]
        return F.interpolate(both[None], self.output, mode="bilinear", antialias=True)[0]

    def _motion(self, drawn: Tensor, share: float) -> Tensor:
        """The map of a window that has moved by so much, shape (2, 3)."""
        zoom, squeeze, turn, right, down = (share * drawn).tolist()
        along = _ZOOM * zoom
        matrix = affine_matrix(
            _DEGREES * turn, (math.exp(along), math.exp(along + _SQUEEZE * squeeze)), self.output
        )
        if share == 1:  # the objects of clips move by themselves
            height, width = self.output
            matrix[:, 2] += torch.tensor([_SHIFT[0] * width * right, _SHIFT[1] * height * down])
        return matrix


def can_be_followed(mask: Tensor) -> bool:
    """Whether an object can be followed, by its mask (h, w) in the window of the first frame."""
    return bool(_LEAST < mask.sum() < _MOST * mask.numel())
