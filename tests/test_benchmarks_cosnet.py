"""Photographs and parts of them become images to train COSNet on."""

import numpy as np
from PIL import Image

from benchmarks.cosnet import salient
from innerloop_vos.data import FolderDataset


def test_images_and_parts_of_them_are_labelled(tmp_path):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 15:45] = 255
    for name, image in (("square", picture), ("empty", 0 * picture)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    seen = []

    def saliency(image):
        seen.append(tuple(image.shape[1:]))
        return image.float().mean(0) / 255

    images = sorted(tmp_path.glob("*.png"))
    count = salient.label(images, tmp_path / "out", saliency, parts=3)
    clips = list(FolderDataset(tmp_path / "out"))
    assert count == len(clips) > 1
    assert {clip.name.partition("-")[0] for clip in clips} == {"square"}
    assert len(seen) == 8
    assert seen[0] == seen[4] == (40, 60)
    assert all(15 < height < 33 and 23 < width < 49 for height, width in seen[1:4])
    for clip in clips:
        bright = clip.frames[0].float().mean(0) > 128
        assert ((clip.masks[0] > 0) == bright).float().mean() > 0.97  # but for the JPEG's edges

    half = salient.label(images, tmp_path / "none", lambda image: saliency(image) * 0.6, parts=0)
    assert half == 0  # nothing is certain
