"""The commands that a table takes, in their order, and where they leave their results."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from innerloop.errors import InputError
from innerloop_vos.data import DavisDataset
from innerloop_vos.reproduce.tables import Row, Table, Training, read_runs

Words = tuple[str, ...]

_BRACED = re.compile(r"\{([^{}]+)\}")
_SMALL_DATA = ("davis", "youtube-vos", "coco")
_HELD_OUT = 2
"""Sequences of DAVIS that `--small` measures, the last ones of its train split."""


@dataclass(frozen=True)
class Choices:
    """What the command line says of how a table is made.

    Args:
        out: the folder of all that is made.
        given: files and folders, by the options that name them; None for those not given.
        variant: of LWL's settings, "released" or "paper".
        small: whether it is made at a small scale.
        train: further words of all trainings.
        evaluate: further words of all measurements.
        weights: files in the place of trainings, by their names.
        device: of all commands.
    """

    out: Path
    given: Mapping[str, str | None]
    variant: str = "released"
    small: bool = False
    train: Words = ()
    evaluate: Words = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"


class Trained(NamedTuple):
    """A training that a table needs.

    Args:
        out: its folder.
        words: of `innerloop-vos`.
    """

    out: Path
    words: Words


class Measured(NamedTuple):
    """A measurement of a row.

    Args:
        out: the folder of masks and scores.
        words: of `innerloop-vos`.
        submission: the file for the server of the benchmark, if it is one that scores.
    """

    out: Path
    words: Words
    submission: Path | None


class Plan:
    """The commands of a table.

    Args:
        table: the table.
        choices: how it is made.

    Attributes:
        trained: the trainings by name, each after that which it starts from.
        measured: the measurements of each row by what is measured; several where the best counts.
        weights: the file of weights of each training.

    Raises:
        InputError: a file or folder that it takes is not given, or `weights` names no training.
    """

    def __init__(self, table: Table, choices: Choices) -> None:
        self.choices = choices
        self._trainings, self._measures, self._methods = read_runs()
        if unknown := sorted(choices.weights.keys() - self._trainings.keys()):
            known = ", ".join(self._trainings)
            raise InputError(f"--use: there is no training {unknown[0]!r}; there are {known}")
        self._table = table.name
        self._held_out = self._choose_held_out() if choices.small else ()
        self.trained: dict[str, Trained] = {}
        self.weights: dict[str, Path] = {}
        self.measured: dict[tuple[str, str], list[Measured]] = {}
        for row in table.rows:
            for measure, training in row.trainings.items():
                self._train(training)
                self.measured[row.name, measure] = self._measure(row, measure, training)

    def _train(self, name: str) -> None:
        if name in self.weights:
            return
        training = self._trainings[name]
        if name in self.choices.weights:
            self.weights[name] = Path(self.choices.weights[name])
            return
        if training.after:
            self._train(training.after)
        out = self.choices.out / "trainings" / name
        self.weights[name] = out / self._methods[training.method].weights
        self.trained[name] = Trained(out, (*self._training_words(training), "--out", str(out)))

    def _training_words(self, training: Training) -> Words:
        words: Words = ("train", *map(self._filled, training.words))
        small = self._methods[training.method] if self.choices.small else None
        if training.after:
            words += ("--init", str(self.weights[training.after]))
        elif small:
            words += small.start
        else:
            words += tuple(map(self._filled, training.start))
        for data in _SMALL_DATA if small else training.data:
            if not small or self.choices.given[data]:
                words += (f"--{data}", self._given(data))
        if small:
            words += (*small.train, "--year", "2016", "--held-out", ",".join(self._held_out))
        return (*words, *self.choices.train, "--device", self.choices.device)

    def _measure(self, row: Row, measure: str, training: str) -> list[Measured]:
        method = self._trainings[training].method
        base: Words = ("evaluate", "--method", method, "--weights", str(self.weights[training]))
        if self.choices.small:
            base += ("--dataset", "davis2016", "--root", self._given("davis"), *row.words)
            base += ("--sequences", ",".join(self._held_out), *self._methods[method].evaluate)
        else:
            kind = self._measures[measure]
            base += ("--root", self._given(kind.data), *kind.words, *row.words)
        found = []
        for searched in row.search or ((),):
            own = (*row.words, *searched)
            out = self.choices.out / "results" / training / "_".join((measure, *_slug(own)))
            words = (*base, *searched, *self.choices.evaluate, "--device", self.choices.device)
            submission = None
            if self._measures[measure].submission and not self.choices.small:
                submission = out.parent / f"{out.name}.zip"
                words += ("--submission", str(submission))
            found.append(Measured(out, (*words, "--out", str(out)), submission))
        return found

    def _filled(self, word: str) -> str:
        return _BRACED.sub(lambda found: self._given(found[1]), word)

    def _given(self, name: str) -> str:
        if name == "variant":
            return self.choices.variant
        value = self.choices.given[name]
        if value is None:
            raise InputError(f"--{name}: {self._table} needs it")
        return value

    def _choose_held_out(self) -> tuple[str, ...]:
        names = DavisDataset(self._given("davis"), split="train").names
        if len(names) <= _HELD_OUT:
            raise InputError(
                f"--davis: there are {len(names)} sequences to train on; --small needs more than "
                f"{_HELD_OUT}"
            )
        return tuple(names[-_HELD_OUT:])


def _slug(words: Words) -> list[str]:
    """Words as parts of the name of a folder."""
    return [re.sub(r"[^\w.=,]+", "-", w.lstrip("-")) for w in words if w != "--option"]
