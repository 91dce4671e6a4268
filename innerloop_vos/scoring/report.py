"""Scores as a table, as CSV and as JSON."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path
from innerloop_vos.runs.folder import read_record, text_digest
from innerloop_vos.scoring.sequence import ObjectScores, SequenceScores
from innerloop_vos.scoring.statistics import Summary, average

SPEED = "FPS"


_COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


def overall_summary(sequences: Iterable[SequenceScores]) -> Summary:
    """Average over all objects of all sequences, as DAVIS does.

    Args:
        sequences: the scores of at least one object.

    Returns:
        The mean of the objects' statistics.

    Raises:
        InputError: there is no object.
    """
    return average([scores.summary for sequence in sequences for scores in sequence.objects])


def table(sequences: Sequence[SequenceScores]) -> Table:
    """Lay out scores as a table for the terminal: one row per object, then their mean.

    A sequence without scores has its own row, with only its speed.

    Args:
        sequences: the scores of at least one sequence; the frames per second are shown if the
            time of one is known.

    Returns:
        The table; J and F are in percent.

    Raises:
        InputError: there is no sequence.
    """
    rows = _rows(sequences)
    if all(row[SPEED] is None for row in rows):
        for row in rows:
            del row[SPEED]
    result = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption="J and F in percent"
    )
    for column in rows[0]:
        result.add_column(
            column.replace("-", "\n"),
            justify="left" if column == "Sequence" else "right",
            no_wrap=True,
        )
    for row in rows[:-1]:
        result.add_row(*(_cell(column, value) for column, value in row.items()))
    result.add_section()
    result.add_row(*(_cell(column, value) for column, value in rows[-1].items()), style="bold")
    return result


def beside(results: Mapping[str, Sequence[SequenceScores]]) -> Table:
    """Lay out the J&F of several results side by side: one row per sequence, then their mean.

    Args:
        results: by name, the scores of the same sequences.

    Returns:
        The table, in percent, with the difference of the last results to the first. The mean is
        over objects, as everywhere.
    """
    columns = [
        {each.name: overall_summary([each]).overall for each in scores if each.objects}
        for scores in results.values()
    ]
    means = [
        overall_summary(scores).overall if column else None
        for column, scores in zip(columns, results.values(), strict=True)
    ]
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="J&F in percent")
    result.add_column("Sequence", no_wrap=True)
    for name in (*results, "difference"):
        result.add_column(escape(name), justify="right", overflow="fold")
    for name in dict.fromkeys(name for column in columns for name in column):
        result.add_row(escape(name), *_compared([column.get(name) for column in columns]))
    result.add_section()
    result.add_row("mean", *_compared(means), style="bold")
    return result


def _compared(values: Sequence[float | None]) -> list[str]:
    first, last = values[0], values[-1]
    difference = f"{100 * (last - first):+.1f}" if first is not None and last is not None else ""
    return [_cell("J&F", value) for value in values] + [difference]


def write_csv(path: str | Path, sequences: Sequence[SequenceScores]) -> None:
    """Write one line per object, then their mean; the columns are named as in DAVIS's own files.

    Args:
        path: the file to write, whole or not at all.
        sequences: the scores of at least one sequence; J and F are written as fractions of 1.

    Raises:
        InputError: there is no sequence, or the file cannot be written.
    """
    rows = _rows(sequences)
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()})


def write_json(path: str | Path, sequences: Sequence[SequenceScores]) -> None:
    """Write the statistics and the values of every frame.

    Args:
        path: the file to write, whole or not at all; `read_json` reads it back.
        sequences: the scores of at least one sequence; J and F are written as fractions of 1.

    Raises:
        InputError: there is no sequence, or the file cannot be written.
    """
    document = {
        "mean": _mean(sequences),
        "sequences": {sequence.name: _entry(sequence) for sequence in sequences},
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n")


def read_json(path: str | Path) -> list[SequenceScores]:
    """Read the scores that `write_json` wrote, for example to continue a longer run.

    Args:
        path: the file.

    Returns:
        The scores of every sequence in it, exactly as they were written.

    Raises:
        InputError: the file cannot be read, holds something else, or was changed.
    """
    sequences = read_record(Path(path), "scores as innerloop-vos writes them").get("sequences")
    try:
        return [_sequence(name, entry) for name, entry in sequences.items()]  # type: ignore[union-attr]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} holds no scores as innerloop-vos writes them: {error}") from error


def _entry(sequence: SequenceScores) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "length": sequence.length,
        "seconds": sequence.seconds,
        "masks": sequence.masks,
        "memory": sequence.memory,
        "objects": {
            str(scores.id): _numbers(scores.summary)
            | {"frames": scores.frames, "J": scores.region, "F": scores.contour}
            for scores in sequence.objects
        },
    }
    return entry | {"digest": _digest(sequence.name, entry)}


def _digest(name: str, entry: dict[str, Any]) -> str:
    """A checksum that shows whether a number was changed."""
    values = {key: value for key, value in entry.items() if key != "digest"}
    return text_digest([name, values])


def _sequence(name: str, entry: dict[str, Any]) -> SequenceScores:
    if entry["digest"] != _digest(name, entry):
        raise ValueError(f"those of sequence {name} were changed")
    length, seconds, masks = entry["length"], entry["seconds"], entry["masks"]
    memory = entry.get("memory")  # which files of earlier versions lack
    objects = [
        ObjectScores(int(id), scores["frames"], scores["J"], scores["F"])
        for id, scores in entry["objects"].items()
    ]
    if type(length) is not int or length < 1:
        raise ValueError(f"sequence {name} has length {length!r}")
    if seconds is not None and not (type(seconds) is float and 0 < seconds < float("inf")):
        raise ValueError(f"sequence {name} has seconds {seconds!r}")
    if not (masks is None or isinstance(masks, str)):
        raise ValueError(f"sequence {name} has masks {masks!r}")
    if memory is not None and not (type(memory) is int and memory > 0):
        raise ValueError(f"sequence {name} has memory {memory!r}")
    for scores in objects:
        _check(scores, f"object {scores.id} of sequence {name}")
    return SequenceScores(name, length, objects, seconds, masks, memory)


def _check(scores: ObjectScores, of: str) -> None:
    if not 1 <= scores.id <= 254:
        raise ValueError(f"{of}: ids are 1 to 254")
    lists = (scores.frames, scores.region, scores.contour)
    if not all(isinstance(each, list) and len(each) == len(scores.frames) > 0 for each in lists):
        raise ValueError(f"{of}: frames, J and F should be lists of one length")
    if not all(isinstance(frame, str) for frame in scores.frames):
        raise ValueError(f"{of}: frames should be names")
    for value in (*scores.region, *scores.contour):
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ValueError(f"{of}: J and F should be in 0..1, got {value!r}")


def _rows(sequences: Sequence[SequenceScores]) -> list[dict[str, Any]]:
    rows = []
    for sequence in sequences:
        named, speed = {"Sequence": sequence.name}, {SPEED: frames_per_second([sequence])}
        if not sequence.objects:
            rows.append(named | {"Object": None} | _numbers(None) | speed)
        rows += [
            named | {"Object": scores.id} | _numbers(scores.summary) | speed
            for scores in sequence.objects
        ]
    return [*rows, {"Sequence": "mean", "Object": None} | _mean(sequences)]


def _mean(sequences: Sequence[SequenceScores]) -> dict[str, Any]:
    """The mean over all objects; None for each number where no object is scored."""
    if not sequences:
        raise InputError("sequences should hold at least one")
    scored = any(sequence.objects for sequence in sequences)
    return _numbers(overall_summary(sequences) if scored else None) | {
        SPEED: frames_per_second(sequences)
    }


def _numbers(summary: Summary | None) -> dict[str, Any]:
    if summary is None:
        return dict.fromkeys(_COLUMNS)
    numbers = (summary.overall, *astuple(summary.region), *astuple(summary.contour))
    return dict(zip(_COLUMNS, numbers, strict=True))


def frames_per_second(sequences: Iterable[SequenceScores]) -> float | None:
    """Return the speed over all sequences whose time is known; None if there is none."""
    timed = [(each.length, each.seconds) for each in sequences if each.seconds is not None]
    if not timed:
        return None
    return sum(length for length, _ in timed) / sum(seconds for _, seconds in timed)


def _cell(column: str, value: str | int | float | None) -> str:
    if isinstance(value, float):
        return f"{value if column == SPEED else 100 * value:.1f}"
    return "" if value is None else escape(str(value))
