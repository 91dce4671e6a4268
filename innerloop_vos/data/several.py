"""Mini-sequences of several objects: those of a clip, and objects of other clips moved over it.

All draws come from torch's global generator, so only its state has to be restored.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop_vos.data.pasting import draw_path, overlay
from innerloop_vos.data.sampling import MiniSequence, Sampler, uniform
from innerloop_vos.data.windows import WindowSampler, can_be_followed

_TRIES = 100
_LEAST = 200
"""Pixels of the window that an object covers in the first frame."""


class SeveralSampler:
    """Draws batches of windows with several objects each.

    A number of objects is drawn. Where the clip shows fewer, objects of other clips are pasted into
    it, which move along a line before or behind all that is there. The window follows one object,
    as that of `WindowSampler` does. Objects that its first frame does not show are left out.

    Args:
        sampler: draws the scenes and the cut-outs.
        output: height and width of the windows in pixels.
        objects: the most in a window.
    """

    def __init__(self, sampler: Sampler, output: tuple[int, int], objects: int) -> None:
        self.sampler, self.objects = sampler, objects
        self.windows = WindowSampler(sampler, output)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw a batch.

        Args:
            count: B, number of scenes.

        Returns:
            Images, RGB in 0..1, shape `(B, T, 3, *output)`, and masks, 0 or 1, float32, shape
            `(B, T, O, *output)`, where O is the most objects that one of them has; those of other
            scenes come first, and are followed by empty ones.

        Raises:
            InputError: a hundred scenes in a row lost their object.
        """
        images, masks = zip(*(self._window() for _ in range(count)), strict=True)
        most = max(each.shape[1] for each in masks)
        padded = [F.pad(each, (0, 0, 0, 0, 0, most - each.shape[1])) for each in masks]
        return torch.stack(images), torch.stack(padded)

    def _window(self) -> tuple[Tensor, Tensor]:
        for _ in range(_TRIES):
            frames, masks = self._scene()
            if not masks[0][0].any():  # what was pasted hides it
                continue
            images, found = self.windows.cut(frames, masks)
            if can_be_followed(found[0, 0]):
                return images, found[:, found[0].sum((1, 2)) > _LEAST]
        height, width = self.windows.output
        raise InputError(
            f"clips: in {_TRIES} scenes, no object covers more than {_LEAST} pixels of a window of "
            f"{width}x{height} (width x height)"
        )

    def _scene(self) -> tuple[list[Tensor], list[Tensor]]:
        """Frames (3, H, W), and the masks (O, H, W) in each."""
        scene = self.sampler.sample()
        wanted = 1 + int(torch.randint(self.objects, ()))
        masks = [mask[None] for mask in scene.masks]
        if scene.others:
            order = torch.randperm(len(scene.others[0]))[: self.objects - 1]
            pairs = zip(masks, scene.others, strict=True)
            masks = [torch.cat([mask, others[order]]) for mask, others in pairs]
        frames = scene.frames
        for _ in range(wanted - len(masks[0])):
            there = MiniSequence(frames, [each.any(0) for each in masks])
            behind, path = uniform(0, 1) < 0.5, draw_path(there)
            frames, pasted = overlay(there, self.sampler.sample(), path, behind=behind)
            pairs = zip(masks, pasted, strict=True)
            masks = [torch.cat([each & ~over, over[None]]) for each, over in pairs]
        return frames, masks
