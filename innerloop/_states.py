"""Files of states to continue from, in which a single changed bit is detected."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from innerloop._files import atomic_path
from innerloop.errors import InputError

_MARK = b"sha256:"
_TAIL = len(_MARK) + 64


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all.

    The file has the content of `torch.save`, which `torch.load` reads, followed by its digest.

    Args:
        path: the file.
        state: tensors, numbers, strings, None, and lists and dicts of these.

    Raises:
        InputError: the file cannot be written.
    """
    content = io.BytesIO()
    torch.save(state, content)
    data = content.getbuffer()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.write(_MARK + hashlib.sha256(data).hexdigest().encode())


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote, with the tensors on the CPU; nothing in the file is run.

    Raises:
        InputError: the file is no such archive, or was changed.
    """
    # Opening a pipe would wait, and a link leads out of the folder of the run.
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{path} is not a file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    content, tail = data[:-_TAIL], data[-_TAIL:]
    if not content or not tail.startswith(_MARK):
        raise InputError(f"{path} is not a checkpoint as this version writes it, or is cut short")
    if tail[len(_MARK) :] != hashlib.sha256(content).hexdigest().encode():
        raise InputError(f"{path} is not a checkpoint as it was written: it is damaged")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is not a checkpoint: {reason}") from None
    if not isinstance(state, dict):
        raise InputError(f"{path} is not a checkpoint: it holds a {type(state).__name__}")
    return state
