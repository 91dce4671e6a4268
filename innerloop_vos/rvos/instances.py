"""The objects of an image, found one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop_vos.layers.resizing import enlarged, shrunk
from innerloop_vos.rvos.model.decoder import States
from innerloop_vos.rvos.model.network import RVOS, Found, Seen
from innerloop_vos.rvos.options import ZeroShotOptions
from innerloop_vos.segmenter import check_frame


@dataclass(frozen=True)
class Instances:
    """Objects of an image, in the order in which they were found.

    Attributes:
        masks: of each object, shape (O, H, W), bool; they may overlap.
        scores: probability of there being so many objects, shape (O,).
    """

    masks: Tensor
    scores: Tensor


@torch.no_grad()
def instances(network: RVOS, image: Tensor, options: ZeroShotOptions | None = None) -> Instances:
    """Find the objects of an image.

    Args:
        network: the network, in evaluation mode.
        image: RGB, shape (3, H, W), uint8, on the network's device.
        options: settings; the precision is the network's. Default: `ZeroShotOptions()`.

    Raises:
        InputError: the image is no such tensor.

    Source:
        Romera-Paredes and Torr, Recurrent Instance Segmentation, ECCV 2016; Salvador et
        al., Recurrent Neural Networks for Semantic Instance Segmentation, 2017, without boxes and
        classes.
    """
    options = options or ZeroShotOptions()
    check_frame(image, None)
    seen = network.see(shrunk(image, options.short_side))
    found, count = find_objects(network, seen, [], 0, options)
    if not count:
        nothing = torch.zeros(0, *image.shape[1:], dtype=torch.bool, device=image.device)
        return Instances(nothing, torch.zeros(0, device=image.device))
    logits = torch.cat([each.logits for each in found[:count]])
    masks = enlarged(logits, image.shape[1:]) > 0
    return Instances(masks, torch.cat([each.score for each in found[:count]]).sigmoid())


def find_objects(
    network: RVOS, seen: Seen, before: Sequence[States], known: int, options: ZeroShotOptions
) -> tuple[list[Found], int]:
    """Find the known objects of a frame, and further ones until the network says stop.

    Args:
        network: the network.
        seen: the frame.
        before: states in the frame before, of the known objects and of what stopped it then.
        known: number of objects that were found before, which no stop ends.
        options: settings.

    Returns:
        The objects in their order, followed by what stopped it, unless there are as many objects
        as may be; and the number of objects.
    """
    found: list[Found] = []
    for index in range(options.objects):
        own = before[index] if index < len(before) else None
        found.append(network.segment(seen, None, own, found[-1].states if found else None))
        if index >= known and found[-1].score.sigmoid() < options.threshold:
            return found, index
    return found, options.objects
