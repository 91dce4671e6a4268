"""`evaluate --methods`: several methods on the same sequences, in one table."""

import argparse
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from innerloop.errors import InputError
from innerloop_vos.commands.datasets import is_unsupervised, open_dataset
from innerloop_vos.commands.outputs import check_outputs, data_folders, prepare_folders
from innerloop_vos.commands.parser import parse
from innerloop_vos.comparison.drawing import draw
from innerloop_vos.comparison.report import laid_out, write_csv, write_json
from innerloop_vos.comparison.rows import Row, count_parameters, measured, published
from innerloop_vos.configuration.arguments import option
from innerloop_vos.data import SequenceFolders
from innerloop_vos.io.files import prepare_output
from innerloop_vos.methods.registry import (
    IN_PLACE,
    METHODS,
    UNSUPERVISED,
    build_segmenter,
    build_unsupervised,
    parse_device,
)
from innerloop_vos.published import read_published
from innerloop_vos.runs.folder import locked
from innerloop_vos.scoring import read_json
from innerloop_vos.training import processes

TABLE = ("comparison.json", "comparison.png")

_SHARED = ("root", "dataset", "split", "resolution", "all_frames", "sequences", "boxes", "device")
"""Options that hold for all methods."""

_OUTPUTS = ("out", "csv", "json", "submission", "method", "methods")


@dataclass(frozen=True)
class Entry:
    """A method of the table.

    Args:
        label: its name with the options behind it.
        words: of the command that evaluates it, after `innerloop-vos`.
        arguments: what they are parsed to.
    """

    label: str
    words: tuple[str, ...]
    arguments: argparse.Namespace

    @property
    def out(self) -> Path:
        """The folder of its masks and scores."""
        return Path(self.arguments.out)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate what is not done yet, each method in a process of its own, and compare all."""
    if processes.started() > 1:
        raise InputError("--methods is for one process; with torchrun, evaluate each by --method")
    if arguments.submission:
        raise InputError("--submission is of one method, not for --methods")
    parse_device(arguments.device)
    entries = _entries(arguments)
    dataset = open_dataset(arguments)
    _check_places(arguments, dataset, entries)
    parameters = {entry.label: _check(entry) for entry in entries}
    prepare_folders([arguments.csv, arguments.json])
    out = prepare_output(arguments.out)
    with locked(out):
        for number, entry in enumerate(entries, start=1):
            print(f"{entry.label} ({number} of {len(entries)})", flush=True)
            _evaluate(entry)
        rows = [_row(entry, dataset, parameters[entry.label]) for entry in entries]
        _report(rows, dataset, arguments)


def _entries(arguments: argparse.Namespace) -> list[Entry]:
    """The methods, each with what `evaluate` is called with for it alone."""
    shared = ["evaluate", *_shared_words(arguments), f"--out={arguments.out}"]
    unset = vars(parse(shared))
    own = unset.keys() - {*_SHARED, *_OUTPUTS}
    if given := sorted(name for name in own if getattr(arguments, name) != unset[name]):
        raise InputError(
            f"{option(given[0])} is of one method: write it behind its name, as in "
            "--methods 'ridge,lwl --weights FILE'"
        )
    entries = []
    for words in _split(arguments.methods):
        method, more = words[0], words[1:]
        if not more and method in IN_PLACE:
            print(
                f"{method} needs --weights; {IN_PLACE[method]}, whose weights ship, takes its place"
            )
            method = IN_PLACE[method]
        label = shlex.join((method, *more))
        folder = Path(arguments.out, re.sub(r"[^\w.]+", "-", label).strip("-."))
        # What can only find objects by itself needs no mention of the task.
        task = ("--task=unsupervised",) if method in UNSUPERVISED.keys() - METHODS.keys() else ()
        line = (*shared[:-1], f"--method={method}", *task, *more, f"--out={folder}")
        parsed = parse(line)
        if stray := [
            n for n in unset if n not in (*own, "method", "out") and getattr(parsed, n) != unset[n]
        ]:
            raise InputError(f"--methods: {label}: {option(stray[0])} is for all methods")
        entries.append(Entry(label, line, parsed))
    folders = [entry.out for entry in entries]
    if again := [entry.label for entry in entries if folders.count(entry.out) > 1]:
        raise InputError(f"--methods: {again[0]} is there twice")
    return entries


def _shared_words(arguments: argparse.Namespace) -> list[str]:
    """The options for all methods, as words."""
    words = []
    for name in _SHARED:
        value = getattr(arguments, name)
        if value is True:
            words.append(option(name))
        elif value not in (None, False):
            words.append(f"{option(name)}={value}")
    return words


def _split(text: str) -> list[list[str]]:
    """Split at commas outside of quotes, then at spaces."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = ",", True, ""
    try:
        methods = [shlex.split(part) for part in lexer]
    except ValueError as error:
        raise InputError(f"--methods: {text!r}: {error}") from error
    if not methods or not all(methods):
        raise InputError(f"--methods: {text!r}, should be names with commas between them")
    return methods


def _check_places(
    arguments: argparse.Namespace, dataset: SequenceFolders, entries: list[Entry]
) -> None:
    """Check that nothing that is read is written over, as `evaluate` does for each method."""
    out = Path(arguments.out)
    tables = {"--csv": [arguments.csv], "--json": [arguments.json]}
    check_outputs(
        {"--out": [out, *(out / name for name in TABLE)], **tables},
        {"--weights": [entry.arguments.weights for entry in entries]},
        {"--root": [*data_folders(arguments.root), *dataset.folders]},
    )
    check_outputs(
        tables,
        {"--out": [out, *(out / name for name in TABLE)]},
        {"--out": [entry.out for entry in entries]},
    )


def _check(entry: Entry) -> int:
    """Check that a method can be built, before any runs for hours; the number of parameters."""
    unsupervised = is_unsupervised(entry.arguments)
    if unsupervised and entry.arguments.boxes:
        raise InputError(f"--boxes: {entry.label} starts from nothing; compare it without them")
    build = build_unsupervised if unsupervised else build_segmenter
    try:
        segmenter = build(entry.arguments, torch.device("cpu"))
    except InputError as error:
        raise InputError(f"--methods: {entry.label}: {error}") from error
    return count_parameters(segmenter)


def _evaluate(entry: Entry) -> None:
    """Evaluate a method in a process of its own, whose peak of memory is then the method's."""
    command = (sys.executable, "-m", "innerloop_vos.cli", *entry.words)
    code = call(command)
    if code:
        raise InputError(f"{entry.label}: its evaluation ended with exit code {code}, see above")


def call(command: tuple[str, ...]) -> int:
    """Run a command without what it prints to stdout, and return its exit code.

    Raises:
        KeyboardInterrupt: a signal came; the command was stopped by it too, and has ended.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()  # Ctrl-C in a terminal has told it already, SIGTERM has not
        process.wait()
        raise


def _row(entry: Entry, dataset: SequenceFolders, parameters: int) -> Row:
    found = {each.name: each for each in read_json(entry.out / "scores.json")}
    task = "from boxes" if entry.arguments.boxes else entry.arguments.task
    return measured(entry.label, task, [found[name] for name in dataset.names], parameters)


def _report(rows: list[Row], dataset: SequenceFolders, arguments: argparse.Namespace) -> None:
    """Print the table with published systems, and write all files."""
    names = dataset.names
    resized = arguments.resolution not in (None, "480p")
    references = [] if resized else read_published().references(arguments.dataset, names)
    rows = rows + published(references)
    Console().print(laid_out(rows))
    if any(result.where for result in references):
        print("speeds of published systems are those of their papers' hardware")
    else:
        print("no paper has figures of just these sequences; docs/published.md has those on DAVIS")
    if any(row.task == "unsupervised" and not row.source for row in rows):
        print(
            "unsupervised methods are scored on all frames, published ones without first and last"
        )
    about = {name: getattr(arguments, name) for name in ("methods", *_SHARED)}
    about["measured"] = names
    out = Path(arguments.out)
    write_json(out / TABLE[0], rows, about)
    draw(out / TABLE[1], rows, f"{arguments.dataset}, {len(names)} sequences")
    if arguments.csv:
        write_csv(arguments.csv, rows)
    if arguments.json:
        write_json(arguments.json, rows, about)
    print(f"{out / TABLE[0]} and {TABLE[1]} have the table and its picture")
