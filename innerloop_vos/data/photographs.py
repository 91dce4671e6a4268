"""Photographs that scikit-image ships, read as files: none of its code runs."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.files import read_image


def photograph(name: str) -> Tensor:
    """Read a photograph that scikit-image ships.

    Args:
        name: the name of the file, such as `coffee.png`.

    Returns:
        The photograph, `(3, H, W)` uint8 RGB.

    Raises:
        InputError: scikit-image is not installed, or has no such photograph.
    """
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise InputError(
            "the photographs are those of scikit-image, which is not installed: "
            "pip install 'innerloop[vos]'"
        )
    image = read_image(Path(package.origin).parent / "data" / name).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
