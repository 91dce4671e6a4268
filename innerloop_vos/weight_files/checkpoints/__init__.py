"""Checkpoints of other systems: the tensors in them, without running the code beside them.

No `pickle.Unpickler` and no `torch.load` has a part in it: those that run nothing today had ways to
be made to. What a file holds is parsed here, into tensors, plain containers and `Unknown`.
"""

from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.io.inputs import named_file
from innerloop_vos.weight_files.checkpoints.archive import START, read_archive
from innerloop_vos.weight_files.checkpoints.legacy import read_legacy
from innerloop_vos.weight_files.checkpoints.pickles import Global, Unknown

__all__ = ["Global", "Unknown", "read_checkpoint"]

_TAR = slice(257, 262)


def read_checkpoint(path: str | Path, kind: str = "checkpoint") -> Any:
    """Read what `torch.save` wrote, in any version of its format, without trusting it.

    Tensors and plain containers are rebuilt; everything else becomes `Unknown`. No code that the
    file names is imported or called, and no more is allocated than the file holds, but for 1 GB.

    Args:
        path: the checkpoint.
        kind: what the file is to the user, for the message.

    Returns:
        What was saved, tensors on the CPU. Objects may contain each other.

    Raises:
        InputError: the file is missing, or is no such checkpoint.
    """
    path = named_file(path, kind)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            start = file.read(_TAR.stop)
            file.seek(0)
            if start.startswith(START):
                return read_archive(file, size)
            if start[_TAR] == b"ustar":
                raise InputError("is a tar archive of a very old torch; save it anew with torch 2")
            return read_legacy(file, size)
    except InputError as error:
        raise InputError(f"{kind}: {path} {error}") from None
    except Exception as error:  # a damaged pickle raises anything
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise InputError(f"{kind}: {path} cannot be read: {reason}") from error
