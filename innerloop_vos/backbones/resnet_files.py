"""Files of ResNet-50s: their names say how some have to be run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from innerloop_vos.weight_files import read_checkpoint, read_weights, tensors_in
from innerloop_vos.weight_files.reading import SUFFIX

Style = Literal["caffe", "torchvision"]
"""Caffe's: the stride in the first 1x1 convolution, BGR in 0..255; torchvision's: the stride in the
3x3 convolution, normalised RGB."""

_BODY, _STEM = "backbone.body.", "stem."
_EPSILON = 1e-5  # of batch normalisation


def read_resnet50(path: str | Path) -> tuple[dict[str, Tensor], Style | None]:
    """Read the weights of a ResNet-50, of the network itself or of a detector on it.

    Args:
        path: a file with the names of torchvision's classification network, in either style; of
            torchvision's Mask R-CNN; or of maskrcnn-benchmark, whose style is Caffe's.

    Returns:
        The tensors by the names of torchvision's classification network; and the style, None where
        the names leave it open.

    Raises:
        InputError: the file is missing or unreadable.
    """
    path = Path(path)
    state: Mapping[str, Tensor] = {}
    if path.suffix != SUFFIX:
        checkpoint = read_checkpoint(path, "weights")
        inside = checkpoint.get("model") if isinstance(checkpoint, dict) else None
        state = tensors_in(inside) if isinstance(inside, dict) else {}
    state = state or read_weights(path)
    body = {k.partition(_BODY)[2]: value for k, value in state.items() if _BODY in k}
    if not body:
        return dict(state), None
    if any(name.startswith(_STEM) for name in body):
        return {name.removeprefix(_STEM): value for name, value in body.items()}, "caffe"
    return with_epsilon(body), "torchvision"


def with_epsilon(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adapt frozen batch normalisation to the epsilon that ours adds to the variance.

    torchvision's Mask R-CNN was trained with an epsilon of 0. Networks of unfrozen batch
    normalisation, which count batches, have the usual one and stay as they are.

    Args:
        state: tensors by name.

    Returns:
        The tensors, the running variances lower by the epsilon.
    """
    if any(name.endswith("num_batches_tracked") for name in state):
        return dict(state)
    return {k: v - _EPSILON if k.endswith("running_var") else v for k, v in state.items()}
