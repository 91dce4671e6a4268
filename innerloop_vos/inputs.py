"""JSON files that others made: damage is named."""

import json
from pathlib import Path
from typing import Any

from innerloop_vos.errors import InputError
from innerloop_vos.files import regular_file


def read_json(path: str | Path, kind: str) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        kind: what the file is to the user, for the message.

    Raises:
        InputError: it is missing, unreadable or no JSON, or nested too deeply.
    """
    path = regular_file(path, kind)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{kind}: {path} is damaged: {error}") from error
