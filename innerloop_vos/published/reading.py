"""Reads `systems.toml`, and checks that it makes sense."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FIGURES = ("J&F", "J", "J recall", "J decay", "F", "F recall", "F decay")
"""All figures that a result may have, in percent."""

TASKS = ("semi-supervised", "from boxes", "unsupervised")
"""What a method is given: the first masks of the objects, boxes around them, or nothing."""

_SPEEDS = ("seconds", "FPS")
_YES_OR_NO = ("online", "causal")
_ROUNDING = 0.11
"""By how much J&F may differ from the mean of J and F, which were rounded before it."""


@dataclass(frozen=True)
class System:
    """A system for video object segmentation.

    Args:
        name: its name.
        paper: its paper; empty where no source names it.
        what: what the sources say that it does, in a phrase; empty where they say nothing.
        methods: the names by which `--method` knows it; none where it does not run here.
    """

    name: str
    paper: str
    what: str
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Sequences on which systems are compared.

    Args:
        dataset: "davis2016" or "davis2017".
        name: the name of the split.
        sequences: their names; empty where nobody but the benchmark can measure on them.
    """

    dataset: str
    name: str
    sequences: frozenset[str]


@dataclass(frozen=True)
class Result:
    """What a source says of a system on a split.

    Args:
        name: the system, or the variant of it that has these figures.
        system: the system.
        split: where it was measured.
        task: one of `TASKS`.
        figures: some of `FIGURES`, in percent.
        online: whether it is fine-tuned on the video; None where the source does not say.
        causal: whether it looks at no later frames; None where the source does not say.
        speed: frames per second on hardware of the source; None where it does not say.
        source: the paper or the page.
        where: the table in it; empty for a page.
        note: what else has to be said; empty for nothing.
    """

    name: str
    system: System
    split: Split
    task: str
    figures: Mapping[str, float]
    online: bool | None
    causal: bool | None
    speed: float | None
    source: str
    where: str
    note: str

    @property
    def overall(self) -> float | None:
        """J&F as the source has it, or else the mean of J and F; None without either."""
        if "J&F" in self.figures or not {"J", "F"} <= self.figures.keys():
            return self.figures.get("J&F")
        return (self.figures["J"] + self.figures["F"]) / 2


@dataclass(frozen=True)
class Published:
    """All that is known.

    Args:
        systems: the systems, in the order of the page.
        splits: the splits, in the order of the page.
        sources: titles of the sources by their short names, which results have.
        results: all results.
    """

    systems: tuple[System, ...]
    splits: tuple[Split, ...]
    sources: Mapping[str, str]
    results: tuple[Result, ...]

    def references(self, dataset: str, sequences: Iterable[str]) -> list[Result]:
        """The results that were measured on exactly these sequences of a data set."""
        measured = dataset, frozenset(sequences)
        return [
            result
            for result in self.results
            if (result.split.dataset, result.split.sequences) == measured
        ]


@cache
def read_published() -> Published:
    """Read all systems and results.

    Raises:
        ValueError: the file contradicts itself.
    """
    path = Path(__file__).with_name("systems.toml")
    return parse(tomllib.loads(path.read_text(encoding="utf-8")))


def parse(content: Mapping[str, Any]) -> Published:
    """Check the content of the file, and make it objects.

    Raises:
        ValueError: it contradicts itself.
    """
    named: dict[str, tuple[str, System]] = {}
    systems = []
    for entry in content["systems"]:
        system = System(
            entry["name"],
            entry.get("paper", ""),
            entry.get("what", ""),
            tuple(entry.get("methods", ())),
        )
        systems.append(system)
        shown = {name: name for name in (system.name, *entry.get("variants", ()))}
        for name, as_ in (shown | dict.fromkeys(entry.get("also", ()), system.name)).items():
            _check(name not in named, f"{name} is named twice")
            named[name] = as_, system
    splits = {
        (each["dataset"], each["name"]): Split(
            each["dataset"], each["name"], frozenset(each["sequences"].split())
        )
        for each in content["splits"]
    }
    results = [
        result
        for table in content["tables"]
        for result in _results(table, named, splits, content["sources"])
    ]
    without = {system.name for system in systems} - {result.system.name for result in results}
    _check(not without, f"{', '.join(sorted(without))}: no table has figures")
    return Published(
        tuple(systems), tuple(splits.values()), dict(content["sources"]), tuple(results)
    )


def _results(
    table: Mapping[str, Any],
    named: Mapping[str, tuple[str, System]],
    splits: Mapping[tuple[str, str], Split],
    sources: Mapping[str, str],
) -> Iterator[Result]:
    """The rows of a table."""
    source, split = table["source"], splits.get((table["dataset"], table["split"]))
    task, where, notes = table.get("task", TASKS[0]), table.get("where", ""), table.get("notes", {})
    of = f"{source}, {where}"
    _check(source in sources, f"{of}: the source is unknown")
    _check(task in TASKS, f"{of}: task {task!r}, should be one of {', '.join(TASKS)}")
    if split is None:
        raise ValueError(f"{of}: {table['dataset']} has no split {table['split']!r}")
    columns = table["columns"]
    unknown = set(columns) - {"system", *FIGURES, *_SPEEDS, *_YES_OR_NO}
    _check(not unknown, f"{of}: unknown columns {sorted(unknown)}")
    strays = notes.keys() - {row[0] for row in table["rows"]}
    _check(not strays, f"{of}: notes on {sorted(strays)}, which have no row")
    for row in table["rows"]:
        _check(len(row) == len(columns), f"{of}: {row} does not fit {columns}")
        cells = {name: cell for name, cell in zip(columns, row, strict=True) if cell != ""}
        printed = cells["system"]
        at = f"{of}, {printed}"
        _check(printed in named, f"{at}: the system is unknown")
        name, system = named[printed]
        figures = {key: float(cells[key]) for key in FIGURES if key in cells}
        note = notes.get(printed, "")
        _check_figures(figures, bool(note), at)
        yield Result(
            f"{name}, {table['variant']}" if "variant" in table else name,
            system,
            split,
            task,
            figures,
            cells.get("online"),
            cells.get("causal"),
            _speed(cells, at),
            source,
            where,
            note,
        )


def _check_figures(figures: Mapping[str, float], noted: bool, at: str) -> None:
    """Check that figures are percentages, and that J&F is the mean of J and F."""
    _check(bool(figures), f"{at}: there is no figure")
    for name, value in figures.items():
        least = -100 if name.endswith("decay") else 0
        _check(least <= value <= 100, f"{at}: {name} {value}")
    if not noted and {"J", "F", "J&F"} <= figures.keys():
        mean = (figures["J"] + figures["F"]) / 2
        _check(abs(figures["J&F"] - mean) < _ROUNDING, f"{at}: J&F is not {mean}, and no note")


def _speed(cells: Mapping[str, Any], at: str) -> float | None:
    """Frames per second."""
    given = [float(cells[name]) for name in _SPEEDS if name in cells]
    if not given:
        return None
    _check(given[0] > 0, f"{at}: speed {given[0]}")
    return 1 / given[0] if "seconds" in cells else given[0]


def _check(true: bool, message: str) -> None:
    if not true:
        raise ValueError(message)
