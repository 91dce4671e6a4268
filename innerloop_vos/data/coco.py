"""COCO's instances in their original layout: images, each a clip of one frame."""

import collections.abc
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.data.sequence import Sequence
from innerloop_vos.io.frames import ImageFrames
from innerloop_vos.io.inputs import read_json

try:
    from pycocotools import mask as coco
except ImportError:
    coco = None

_LARGEST_ID = 254

# What pycocotools raises for anything but polygons and run lengths; it checks little.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)


class CocoDataset(collections.abc.Sequence[Sequence]):
    """The images of a COCO split that show objects, each as a clip of one frame.

    The layout is the original one: `annotations/instances_train2017.json` and
    `train2017/000000000009.jpg`. The objects of an image are numbered from the largest to the
    smallest; pixels that two objects share belong to the smaller one. Crowds are background, and so
    are polygons of fewer than three points.

    Args:
        root: the folder that holds `annotations` and the folders of images.
        split: `"train2017"`, `"val2017"` ...

    Raises:
        InputError: the folder is not laid out so, its annotations are damaged, no image shows an
            object, or one is missing; pycocotools is not installed.

    Source:
        Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
    """

    def __init__(self, root: str | Path, split: str = "train2017") -> None:
        if coco is None:
            raise InputError("COCO needs pycocotools: pip install innerloop[train]")
        self.annotations = Path(root) / "annotations" / f"instances_{split}.json"
        self.folder = Path(root) / split
        for path in (self.annotations, self.folder):
            if not path.exists():
                raise InputError(f"{root} is not laid out as COCO: there is no {path}")
        try:
            self.images = _read(self.annotations)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.annotations} is damaged: it should hold 'images' and the 'annotations' of "
                f"their objects ({error!r})"
            ) from error
        if not self.images:
            raise InputError(f"{self.annotations} names no image with an object")
        names = [PurePosixPath(image["file_name"]) for image in self.images]
        if outside := [name for name in names if name.is_absolute() or ".." in name.parts]:
            raise InputError(f"{self.annotations}: {outside[0]} is not a file inside {self.folder}")
        there = {
            folder / path.name
            for folder in {name.parent for name in names}
            if (self.folder / folder).is_dir()
            for path in (self.folder / folder).iterdir()
        }
        if missing := [name for name in names if name not in there]:
            raise InputError(
                f"image {self.folder / missing[0]} is missing, as are {len(missing) - 1} others "
                f"that {self.annotations.name} names"
            )

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Sequence: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sequence]: ...
    def __getitem__(self, index: int | slice) -> Sequence | list[Sequence]:
        """Open the image at an index; for a slice, a list of images."""
        if isinstance(index, slice):
            return [self._open(image) for image in self.images[index]]
        return self._open(self.images[index])

    def __iter__(self) -> Iterator[Sequence]:
        return map(self._open, self.images)

    def _open(self, image: dict[str, Any]) -> Sequence:
        path, annotated = self.folder / image["file_name"], (image["height"], image["width"])
        frames = ImageFrames([path])
        if frames.size != annotated:  # they may refer to the image as it is stored
            stored = ImageFrames([path], upright=False)
            frames = stored if stored.size == annotated else frames
        if frames.size != annotated:
            height, width = frames.size
            raise InputError(
                f"image {frames.paths[0]} is {width}x{height} pixels (width x height), but its "
                f"annotations are of {image['width']}x{image['height']}"
            )
        return Sequence(frames.names[0], frames, _Labels(image, str(self.annotations)))


class _Labels(collections.abc.Sequence[Tensor | None]):
    """The ids of one image, computed on demand: those of all images take too much memory."""

    def __init__(self, image: dict[str, Any], source: str) -> None:
        self.image, self.source = image, source

    def __len__(self) -> int:
        return 1

    @overload
    def __getitem__(self, index: int) -> Tensor | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor | None]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor | None] | None:
        indices = range(1)[index]
        if isinstance(indices, range):
            return [self[i] for i in indices]
        try:
            return _labels(self.image)
        except _DAMAGE as error:
            raise InputError(
                f"{self.source} is damaged: an object of {self.image['file_name']} has no "
                f"polygons or run lengths ({error!r})"
            ) from error


def _read(path: Path) -> list[dict[str, Any]]:
    """The images with objects: file name, height, width and the segmentations of their objects."""
    content = read_json(path, "COCO")
    images: dict[int, dict[str, Any]] = {
        image["id"]: {key: image[key] for key in ("file_name", "height", "width")} | {"objects": []}
        for image in content["images"]
    }
    for image in images.values():
        sizes = image["height"], image["width"]
        if type(image["file_name"]) is not str or not all(type(size) is int for size in sizes):
            raise TypeError("an image should have a file name, a height and a width")
    for annotation in content["annotations"]:
        # Annotations of images that are not listed, as in a part of a split, are left out.
        known = images.get(annotation["image_id"])
        if known is not None and not annotation.get("iscrowd"):
            known["objects"].append(annotation["segmentation"])
    return [image for image in images.values() if image["objects"]]


def _labels(image: dict[str, Any]) -> Tensor:
    """Object ids, `(H, W)` uint8."""
    height, width = image["height"], image["width"]
    labels = np.zeros((height, width), np.uint8)
    masks = [_mask(segmentation, height, width) for segmentation in image["objects"]]
    masks.sort(key=np.count_nonzero, reverse=True)
    for id_, mask in enumerate(masks[:_LARGEST_ID], start=1):
        labels[mask] = id_
    return torch.from_numpy(labels)


def _mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of an object, given as polygons or as run lengths, compressed or not."""
    if isinstance(segmentation, list):
        # pycocotools would take four numbers as a box.
        polygons = [p for p in segmentation if len(p) >= 6 and len(p) % 2 == 0]
        if not polygons:
            return np.zeros((height, width), np.bool_)
        for polygon in polygons:
            # A coordinate that is NaN or far away would take all memory.
            if not (np.abs(np.asarray(polygon, float)) <= 2 * max(height, width)).all():
                raise ValueError(f"polygon {polygon}")
        runs = coco.merge(coco.frPyObjects(polygons, height, width))
    elif list(segmentation["size"]) != [height, width]:
        raise ValueError(f"run lengths of size {segmentation['size']}")
    elif isinstance(segmentation["counts"], list):
        runs = coco.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    mask: NDArray[np.uint8] = coco.decode(runs)
    if mask.max() > 1:  # it was not written to the end
        raise ValueError("run lengths that end before the image")
    return mask.astype(np.bool_)
