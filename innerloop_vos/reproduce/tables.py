"""What the files say: tables with their rows, trainings and measurements."""

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.errors import InputError

_FOLDER = Path(__file__).parent
_SMALL = ("train", "start", "evaluate")

Figures = tuple[float | None, ...]
"""Of the columns of a measurement, in their order; None where there is none."""


@dataclass(frozen=True)
class Training:
    """A training, as words of `innerloop-vos train`, in which braces name options of `reproduce`.

    Args:
        words: the network and its options.
        start: further words, with the weights that it starts from.
        after: the training whose weights it starts from instead.
        data: the data sets that it is trained on, by the options that name their folders.
    """

    words: tuple[str, ...]
    start: tuple[str, ...]
    after: str | None
    data: tuple[str, ...]

    @property
    def method(self) -> str:
        """The network that is trained, and the method that segments with it."""
        return self.words[0]


@dataclass(frozen=True)
class Measure:
    """A measurement, as words of `innerloop-vos evaluate`.

    Args:
        words: its options.
        data: the option that names the folder of the data set.
        submission: whether only the server of the benchmark has the annotations.
    """

    words: tuple[str, ...]
    data: str
    submission: bool


@dataclass(frozen=True)
class Method:
    """What the trainings of a method leave, and what `--small` adds to its words.

    Args:
        weights: the name of the file of weights.
        train: to those of its trainings.
        start: in the place of the weights that these start from.
        evaluate: to those of its measurements.
    """

    weights: str
    train: tuple[str, ...]
    start: tuple[str, ...]
    evaluate: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        name: what it says.
        trainings: the training that is measured, by measurement; none of methods that are only
            quoted.
        words: further words of its measurements.
        search: one of these is added to them, whichever is best; none: nothing is.
        paper: the figures of the paper by measurement.
        x: where it lies in a curve; None elsewhere.
    """

    name: str
    trainings: Mapping[str, str]
    words: tuple[str, ...]
    search: tuple[tuple[str, ...], ...]
    paper: Mapping[str, Figures]
    x: float | None


@dataclass(frozen=True)
class Table:
    """A table or a figure of a paper.

    Args:
        name: by which the command knows it.
        title: what it is.
        columns: what is measured on what.
        rows: its rows.
        curve: the names of the axes, where it is drawn as a curve, x and y.
        pictures: what is drawn: "masks" or "labels"; None for nothing.
        frames: of which masks are drawn, from 0 for the first to 1 for the last.
        sequences: whether sequences are listed too.
    """

    name: str
    title: str
    columns: Mapping[str, tuple[str, ...]]
    rows: tuple[Row, ...]
    curve: Mapping[str, str] | None
    pictures: str | None
    frames: tuple[float, ...]
    sequences: bool


def table_names() -> list[str]:
    """The names of all tables and figures."""
    return sorted(path.stem for path in (_FOLDER / "tables").glob("*.toml"))


def read_table(name: str) -> Table:
    """Read a table or a figure.

    Raises:
        InputError: there is none of that name.
    """
    if name not in table_names():
        raise InputError(f"TABLE: {name!r}, should be one of {', '.join(table_names())}")
    content = _read(_FOLDER / "tables" / f"{name}.toml")
    columns = {measure: tuple(names) for measure, names in content["columns"].items()}
    common = _words(content.get("options", ""))
    return Table(
        name,
        content["title"],
        columns,
        tuple(_row(row, tuple(columns), common) for row in content["rows"]),
        content.get("curve"),
        content.get("pictures"),
        tuple(content.get("frames", ())),
        content.get("sequences", False),
    )


def read_runs() -> tuple[dict[str, Training], dict[str, Measure], dict[str, Method]]:
    """Read the trainings, the measurements and the methods by name."""
    content = _read(_FOLDER / "runs.toml")
    trainings: dict[str, Training] = {}
    for name, entry in content["trainings"].items():
        like = content["trainings"].get(entry.get("like"), {})
        words = f"{like.get('train', '')} {entry.get('train', '')}"
        merged = like | entry
        trainings[name] = Training(
            _words(words),
            _words(merged.get("start", "")),
            merged.get("after"),
            tuple(merged["data"]),
        )
    measures = {
        name: Measure(_words(entry["evaluate"]), entry["data"], entry.get("submission", False))
        for name, entry in content["measures"].items()
    }
    methods = {
        name: Method(entry["weights"], *(_words(entry[part]) for part in _SMALL))
        for name, entry in content["methods"].items()
    }
    return trainings, measures, methods


def _row(row: Mapping[str, Any], measures: tuple[str, ...], common: tuple[str, ...]) -> Row:
    training, paper = row.get("training", {}), row.get("paper", {})
    if isinstance(training, str):
        training = dict.fromkeys(measures or ("",), training)
    if isinstance(paper, list):
        paper = {measures[0]: paper}
    return Row(
        row["name"],
        training,
        common + _words(row.get("options", "")),
        tuple(map(_words, row.get("search", ()))),
        {measure: tuple(v if v != "" else None for v in paper[measure]) for measure in paper},
        row.get("x"),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))
