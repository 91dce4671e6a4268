"""Pictures of what LWL's target model learns from, and of what it predicts."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

import innerloop as il
from innerloop_vos.io.drawing import overlay
from innerloop_vos.lwl.model.network import LWL


@torch.no_grad()
def target_pictures(network: LWL, images: Tensor, masks: Tensor, steps: int) -> dict[str, Tensor]:
    """Learn an object from one frame, and show how it is found in another.

    Args:
        network: is left in evaluation mode.
        images: the frame that is learned from, and the other one: RGB in 0..1, (2, 3, H, W).
        masks: of the object in the first one, 0 or 1, (1, H, W).
        steps: of the inner solver.

    Returns:
        Pictures by name, RGB in 0..1: the first frame with the mask; the labels, the weights and
        the target scores, a map per channel, each from its min in black to its max in
        white; and the second frame with the mask that is predicted.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, Fig. 11.
    """
    network.eval()
    levels, features = network.extract(images)
    labels, weights = network.label_encoder(masks)
    filters = network.target_model.fit(
        features[None, :1], labels[None], weights[None], steps=steps, adjoint=il.Detach()
    )
    scores = network.target_model.score(filters, features[None, 1:])[0]
    second = {name: level[1:] for name, level in levels.items()}
    logits = network.decode(scores, second, images.shape[-2:])
    return {
        "pictures/learned from": drawn(images[0], masks[0]),
        "pictures/labels": tiles(labels[0]),
        "pictures/weights": tiles(weights[0]),
        "pictures/scores": tiles(scores[0]),
        "pictures/prediction": drawn(images[1], logits[0] > 0),
    }


@torch.no_grad()
def box_pictures(network: LWL, image: Tensor, box: Tensor) -> dict[str, Tensor]:
    """Show how an object is found in a box; as `target_pictures`.

    Args:
        network: is left in evaluation mode; it has a box encoder.
        image: RGB in 0..1, (3, H, W).
        box: 1 inside the box and 0 outside, (H, W).
    """
    network.eval()
    return {
        "pictures/box": drawn(image, box),
        "pictures/prediction": drawn(image, network.segment_box(image[None], box[None])[0] > 0),
    }


@torch.no_grad()
def label_pictures(network: LWL, frame: Tensor, mask: Tensor, channels: int) -> list[Tensor]:
    """Show what the target model is to learn of an object.

    Args:
        network: its label encoder is looked at.
        frame: RGB, (3, H, W), uint8.
        mask: of the object, 0 or 1, (H, W).
        channels: of the labels, the first ones.

    Returns:
        Pictures of the frame's size, RGB, (3, H, W), uint8: the mask with its labels, then the
        frame with their absolute weights; each map from its min in black to its max in white.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, Fig. 11.
    """
    labels, weights = network.label_encoder(mask[None].float())
    lines = []
    for first, maps in ((_grey(mask.float()), labels), (frame, weights.abs())):
        full = F.interpolate(maps[:, :channels], mask.shape[-2:])[0]
        lines += [first, *map(_grey, full)]
    return lines


def _grey(values: Tensor) -> Tensor:
    low, high = values.aminmax()
    share = (values - low) / (high - low).clamp(min=1e-12)
    return (255 * share).round().byte().expand(3, -1, -1)


def tiles(maps: Tensor) -> Tensor:
    """Lay maps (D, h, w) side by side."""
    columns = math.ceil(math.sqrt(len(maps)))
    sheet: Tensor = make_grid(maps[:, None], nrow=columns, normalize=True, scale_each=True)
    return sheet


def drawn(image: Tensor, mask: Tensor) -> Tensor:
    """Draw an object over an image (3, H, W) in 0..1."""
    return overlay((255 * image).byte(), mask.byte()).float() / 255
