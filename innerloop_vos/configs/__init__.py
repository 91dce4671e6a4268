"""The options of the trainings of both papers, as files that `train --config NAME` reads."""

from pathlib import Path

_FOLDER = Path(__file__).parent


def config_names() -> list[str]:
    """The files that this package brings, by name."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def config_path(name: str) -> Path:
    """Return the file of a name; of anything else, the path that it is."""
    return _FOLDER / f"{name}.toml" if name in config_names() else Path(name)
