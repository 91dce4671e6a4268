"""`innerloop-vos score`: J and F of masks against a data set's annotations."""

import argparse
from collections.abc import Sequence

from rich.console import Console

from innerloop.errors import InputError
from innerloop_vos.commands.outputs import check_outputs, data_folders
from innerloop_vos.data import DavisDataset
from innerloop_vos.scoring import SequenceScores, score_results, table, write_csv, write_json

_YEARS = {"davis2016": 2016, "davis2017": 2017}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        "Measure region similarity J and contour accuracy F of RESULTS/SEQ/00000.png "
        "as the DAVIS benchmark does: without the first and the last frame."
    )
    parser.add_argument("results", metavar="RESULTS", help="folder with a folder per sequence")
    add_dataset_arguments(parser)
    add_report_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Score the results and report."""
    dataset = open_dataset(arguments)
    check_outputs(
        {"--csv": [arguments.csv], "--json": [arguments.json]},
        {},
        {"RESULTS": [arguments.results], "--root": data_folders(arguments.root)},
    )
    report(score_results(arguments.results, dataset), arguments)


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a data set and the sequences of it."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--root", required=True, help="DAVIS: the folder with JPEGImages and Annotations"
    )
    group.add_argument(
        "--dataset",
        default="davis2016",
        help="davis2016 (one object, default) or davis2017 (object ids)",
    )
    group.add_argument("--split", default="val", help="list in ImageSets (default: %(default)s)")
    group.add_argument(
        "--sequences", metavar="A,B", help="only these sequences, in place of the split"
    )


def open_dataset(arguments: argparse.Namespace) -> DavisDataset:
    """Open the data set that the options of `add_dataset_arguments` name."""
    if arguments.dataset not in _YEARS:
        raise InputError(f"dataset: {arguments.dataset!r}, should be one of {', '.join(_YEARS)}")
    sequences = arguments.sequences.split(",") if arguments.sequences else None
    return DavisDataset(arguments.root, _YEARS[arguments.dataset], arguments.split, sequences)


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where scores are written besides the terminal."""
    parser.add_argument("--csv", metavar="FILE", help="write the table as CSV")
    parser.add_argument("--json", metavar="FILE", help="write every frame's J and F as JSON")


def report(scores: Sequence[SequenceScores], arguments: argparse.Namespace) -> None:
    """Print the table, and write the files that the options of `add_report_arguments` name."""
    Console().print(table(scores))
    if without := [each.name for each in scores if not each.objects]:
        print(
            f"nothing can be scored in {', '.join(without)}: no frame between the first and the "
            "last is annotated"
        )
    if arguments.csv:
        write_csv(arguments.csv, scores)
    if arguments.json:
        write_json(arguments.json, scores)
