"""Synthetic clips in the layout of DAVIS, for trainings that only have to run."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from innerloop_vos.data.synthetic import synthetic_clip
from innerloop_vos.io.masks import write_mask


def write_davis(root: Path, names: Iterable[str], length: int, size: tuple[int, int]) -> None:
    """Write clips of one object each, all in the split `train`.

    Args:
        root: folder that receives them.
        names: of the clips.
        length: frames of a clip.
        size: height and width in pixels.
    """
    for seed, name in enumerate(names):
        frames, masks = synthetic_clip(length, size, objects=1, seed=seed)
        images, labels = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        for folder in (images, labels):
            folder.mkdir(parents=True)
        for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            picture = Image.fromarray(frame.permute(1, 2, 0).numpy())
            picture.save(images / f"{index:05d}.jpg")
            write_mask(labels / f"{index:05d}.png", mask)
    (root / "ImageSets" / "480p").mkdir(parents=True)
    (root / "ImageSets" / "480p" / "train.txt").write_text("\n".join(names) + "\n")
