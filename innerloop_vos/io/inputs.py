"""Files that others made: errors name a file that is missing or damaged."""

import json
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.io.files import regular_file


def named_file(path: str | Path, kind: str) -> Path:
    """`regular_file`, whose error begins with the kind of the file.

    Raises:
        InputError: there is no file, or a folder, a pipe or a device.
    """
    try:
        return regular_file(path, kind)
    except InputError as error:
        raise InputError(f"{kind}: {path} is not a file: {error}") from None


def read_json(path: str | Path, kind: str) -> Any:
    """Read a JSON file.

    Args:
        path: path of the file.
        kind: name of the file for the user, for the message.

    Raises:
        InputError: the file is missing, unreadable, not JSON, or nested too deeply.
    """
    path = named_file(path, kind)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{kind}: {path} is damaged: {error}") from error
