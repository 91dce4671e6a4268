"""Checkpoints of other systems: the tensors in them, without running the code beside them."""

import pickle
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from innerloop_vos.errors import InputError

_REBUILT: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
}


class Unknown:
    """Stands where a checkpoint holds anything but tensors and plain containers.

    It takes the place of classes and of functions, whatever they are called with, and of what
    they would have made.
    """

    def __init__(self, *arguments: object) -> None:
        pass

    def __call__(self, *arguments: object) -> "Unknown":
        return self

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Swallow an item of a list."""

    extend = append
    add = append


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _REBUILT.get((module, name), Unknown)


def read_checkpoint(path: str | Path) -> Any:
    """Read what `torch.save` wrote, in any version of its format, without trusting it.

    Tensors and plain containers are rebuilt; everything else becomes `Unknown`. No code that the
    file names is imported or called.

    Args:
        path: the checkpoint.

    Returns:
        What was saved, tensors on the CPU.

    Raises:
        InputError: the file is missing, or is no such checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint: {path} is not a file")
    if _is_torchscript(path):
        raise InputError(f"checkpoint: {path} is a TorchScript program, not a checkpoint")
    try:
        return torch.load(path, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
    except Exception as error:  # a damaged pickle raises anything
        reason, _, _ = str(error).partition("\n")
        raise InputError(f"checkpoint: {path} cannot be read: {reason}") from error


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# What torch.load asks of a pickle module.
_PICKLE = types.SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__=__name__)


def _is_torchscript(path: Path) -> bool:
    # torch.load would hand such a file on to torch.jit.load.
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())
