"""Files that others made: what is no regular file is not opened, and damage is named."""

import json
import stat
from pathlib import Path
from typing import Any

from innerloop_vos.errors import InputError


def regular_file(path: str | Path, kind: str) -> tuple[Path, int]:
    """Check that a path is a file, and no folder, pipe or device, whose reading may never end.

    Args:
        path: of the file; links are followed.
        kind: what the file is to the user, for the message.

    Returns:
        The path, and the size of the file in bytes.

    Raises:
        InputError: it is missing, cannot be looked at, or is something else.
    """
    path = Path(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{kind}: {path} is not a file: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{kind}: {path} is not a file")
    return path, found.st_size


def read_json(path: str | Path, kind: str) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        kind: what the file is to the user, for the message.

    Raises:
        InputError: it is missing, unreadable or no JSON, or nested too deeply.
    """
    path, _ = regular_file(path, kind)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{kind}: {path} is damaged: {error}") from error
