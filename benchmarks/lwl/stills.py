"""Turns annotated images into clips of one frame, which trainings take after `--clips`.

Objects are polygons (`labels/NAME.txt`, each line a class and then x y x y ... in shares of the
sides) or label maps (`labels/NAME.png`, where all that is not 0 is the one object). The image of a
name is looked for beside: in the same folder, with every `labels` in its path replaced by `images`.

    python -m benchmarks.lwl.stills coco128-seg/labels/train2017 OBJECTS
    python -m benchmarks.lwl.stills ccp/labels PEOPLE
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from innerloop.errors import InputError
from innerloop_vos.io.masks import write_mask

_SHARES = (0.01, 0.6)
"""Objects that cover less or more of their image are left out."""

_MOST = 254


def polygons(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Fill the polygons of a file; where two overlap, the smaller one is on top.

    Args:
        path: the file.
        size: width and height of the image.

    Returns:
        Object ids, shape (H, W).
    """
    masks = []
    for line in path.read_text(encoding="utf-8").splitlines():
        numbers = [float(word) for word in line.split()[1:]]
        points = [(x * size[0], y * size[1]) for x, y in zip(*[iter(numbers)] * 2, strict=True)]
        drawn = Image.new("1", size)
        ImageDraw.Draw(drawn).polygon(points, fill=1)
        masks.append(np.asarray(drawn))
    large = [mask for mask in masks if _SHARES[0] < mask.mean() < _SHARES[1]]
    labels = np.zeros(size[::-1], np.uint8)
    for id_, mask in enumerate(sorted(large, key=np.count_nonzero, reverse=True)[:_MOST], start=1):
        labels[mask] = id_
    return labels


def image_of(path: Path) -> Path | None:
    """The image that a file of labels is of, None if there is none."""
    folder = Path(*("images" if part == "labels" else part for part in path.parent.parts))
    return min(folder.glob(f"{path.stem}.*"), default=None)


def convert(labels: Path, out: Path) -> int:
    """Write a clip for every image with objects; returns how many.

    Raises:
        InputError: there is none.
    """
    count = 0
    for path in sorted([*labels.glob("*.txt"), *labels.glob("*.png")]):
        source = image_of(path)
        if source is None:
            continue
        picture = Image.open(source).convert("RGB")
        if path.suffix == ".txt":
            ids = polygons(path, picture.size)
        else:
            ids = (np.asarray(Image.open(path)) > 0).astype(np.uint8)
        if not ids.any() or ids.shape != picture.size[::-1]:
            continue
        for part in ("JPEGImages", "Annotations"):
            (out / part / path.stem).mkdir(parents=True, exist_ok=True)
        picture.save(out / "JPEGImages" / path.stem / "00000.jpg", quality=95)
        write_mask(out / "Annotations" / path.stem / "00000.png", torch.from_numpy(ids))
        count += 1
    if not count:
        raise InputError(f"labels: {labels} holds no labels with an image of their name")
    return count


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labels", type=Path, help="folder of labels")
    parser.add_argument("out", type=Path, help="folder for JPEGImages and Annotations")
    arguments = parser.parse_args(words)
    print(f"{convert(arguments.labels, arguments.out)} images")


if __name__ == "__main__":
    main()
