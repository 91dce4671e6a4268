"""`innerloop-vos score`: J and F of masks against a data set's annotations."""

import argparse
from collections.abc import Sequence

from rich.console import Console

from innerloop.errors import InputError
from innerloop_vos.commands.datasets import (
    add_dataset_arguments,
    add_task_argument,
    is_unsupervised,
    open_dataset,
)
from innerloop_vos.commands.outputs import check_outputs, data_folders, prepare_folders
from innerloop_vos.data import SequenceFolders, YouTubeVOSDataset
from innerloop_vos.scoring import (
    SequenceScores,
    beside,
    category_scores,
    score_results,
    table,
    write_csv,
    write_json,
)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        "Measure region similarity J and contour accuracy F of RESULTS/SEQ/00000.png "
        "as the benchmarks do: without the frame that shows an object first and, but for "
        "YouTube-VOS, the last; or, for --task unsupervised, with all frames, and the objects "
        "matched with those of the annotations."
    )
    parser.add_argument("results", metavar="RESULTS", help="folder with a folder per sequence")
    parser.add_argument(
        "--beside", metavar="OTHERS", help="another such folder, to compare sequence by sequence"
    )
    add_dataset_arguments(parser)
    add_task_argument(parser)
    add_report_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Score the results and report."""
    dataset = open_dataset(arguments)
    unsupervised = is_unsupervised(arguments)
    check_outputs(
        {"--csv": [arguments.csv], "--json": [arguments.json]},
        {},
        {
            "RESULTS": [arguments.results],
            "--beside": [arguments.beside],
            "--root": [*data_folders(arguments.root), *dataset.folders],
        },
    )
    prepare_folders([arguments.csv, arguments.json])
    scores = score_results(arguments.results, dataset, unsupervised=unsupervised)
    if arguments.beside:
        others = score_results(arguments.beside, dataset, unsupervised=unsupervised)
        names = (arguments.results, arguments.beside)
        Console().print(beside(dict(zip(names, (scores, others), strict=True))))
    report(scores, dataset, arguments)


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where scores are written besides the terminal."""
    parser.add_argument("--csv", metavar="FILE", help="write the table as CSV")
    parser.add_argument("--json", metavar="FILE", help="write every frame's J and F as JSON")


def report(
    scores: Sequence[SequenceScores], dataset: SequenceFolders, arguments: argparse.Namespace
) -> None:
    """Print the table, and write the files that the options of `add_report_arguments` name."""
    Console().print(table(scores))
    if without := [each.name for each in scores if not each.objects]:
        print(
            f"nothing can be scored in {', '.join(without)}: no frame is annotated but those that "
            "show an object first, and the last"
        )
    if arguments.csv:
        write_csv(arguments.csv, scores)
    if arguments.json:
        write_json(arguments.json, scores)
    if isinstance(dataset, YouTubeVOSDataset) and any(each.objects for each in scores):
        _print_categories(scores, dataset)


def _print_categories(scores: Sequence[SequenceScores], dataset: YouTubeVOSDataset) -> None:
    """Print G and what it is the mean of; what is missing for that does not undo the rest."""
    try:
        means = category_scores(scores, dataset)
    except InputError as error:
        print(f"no scores of seen and unseen categories: {error}")
    else:
        print(", ".join(f"{name} {100 * value:.1f}" for name, value in means.items()))
