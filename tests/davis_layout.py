"""Synthetic clips written in the layout of DAVIS 2016."""

from PIL import Image

from innerloop_vos.data.synthetic import synthetic_clip
from innerloop_vos.io.masks import write_mask


def write_davis(root, names, length=10, size=(64, 80)):
    """Write one clip of one object a name, all in the split `train`, and return the folder."""
    for seed, name in enumerate(names):
        frames, masks = synthetic_clip(length, size, objects=1, seed=seed)
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            image = Image.fromarray(frame.permute(1, 2, 0).numpy())
            image.save(root / "JPEGImages" / "480p" / name / f"{index:05d}.jpg")
            write_mask(root / "Annotations" / "480p" / name / f"{index:05d}.png", mask)
    (root / "ImageSets" / "480p").mkdir(parents=True)
    (root / "ImageSets" / "480p" / "train.txt").write_text("\n".join(names) + "\n")
    return root
