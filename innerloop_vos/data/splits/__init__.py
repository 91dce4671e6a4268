"""Lists of sequences by name, and in files."""

from collections.abc import Iterable
from pathlib import Path

from innerloop.errors import InputError

_FOLDER = Path(__file__).parent


def split_names() -> list[str]:
    """The lists that this package brings."""
    return sorted(path.stem for path in _FOLDER.glob("*.txt"))


def sequence_names(words: Iterable[str]) -> list[str]:
    """Put the names in lists in the place of the lists.

    Args:
        words: names of sequences; or `@` and one of `split_names`, or a text file with a name a
            line, where what follows `#` does not count.

    Returns:
        The names, each once.

    Raises:
        InputError: there is no such list, or it cannot be read.
    """
    found: dict[str, None] = {}
    for word in words:
        found.update(dict.fromkeys(_listed(word[1:]) if word.startswith("@") else [word]))
    return list(found)


def _listed(name: str) -> list[str]:
    path = _FOLDER / f"{name}.txt" if name in split_names() else Path(name)
    if not path.is_file():
        raise InputError(
            f"sequences: there is no list @{name}; there are "
            f"{', '.join('@' + each for each in split_names())}, or @ and a text file"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"sequences: {path} cannot be read: {error}") from error
    names = [line.partition("#")[0].strip() for line in lines]
    if not any(names):
        raise InputError(f"sequences: {path} names no sequence")
    return [each for each in names if each]
