"""The check of two masks before both measures compare them."""

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.errors import InputError


def binary_pair(
    prediction: torch.Tensor, truth: torch.Tensor
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Turn two masks into boolean arrays of one size.

    Args:
        prediction: (H, W) mask, boolean or integer; nonzero is the object.
        truth: (H, W) mask, boolean or integer; nonzero is the object.

    Returns:
        Both masks as boolean (H, W) arrays.

    Raises:
        InputError: a mask is not an (H, W) tensor of booleans or integers, or the sizes differ.
    """
    for name, mask in (("prediction", prediction), ("truth", truth)):
        # A soft mask is refused: nearly all its pixels would count as the object.
        if mask.ndim != 2 or mask.is_floating_point():
            raise InputError(
                f"{name} should be an (H, W) mask of booleans or integers, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction is {_size(prediction)} pixels but truth is {_size(truth)}; "
            "they should be of one size (width x height)"
        )
    return prediction.bool().cpu().numpy(), truth.bool().cpu().numpy()


def _size(mask: torch.Tensor) -> str:
    return f"{mask.shape[1]}x{mask.shape[0]}"
