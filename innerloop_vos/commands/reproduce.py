"""`innerloop-vos reproduce`: make a table or a figure of the papers."""

import argparse
import shlex
from pathlib import Path

from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.commands.datasets import open_dataset
from innerloop_vos.commands.outputs import check_outputs, data_folders
from innerloop_vos.commands.parser import parse
from innerloop_vos.data import SequenceFolders
from innerloop_vos.io.drawing import contact_sheet
from innerloop_vos.io.files import prepare_output
from innerloop_vos.lwl import load_lwl
from innerloop_vos.lwl.training.pictures import label_pictures
from innerloop_vos.methods.registry import add_device_argument, parse_device
from innerloop_vos.reproduce.pictures import draw_masks
from innerloop_vos.reproduce.plan import Choices, Measured, Plan, Words
from innerloop_vos.reproduce.results import Results, read_results, show_results
from innerloop_vos.reproduce.tables import Table, read_table, table_names
from innerloop_vos.training import processes
from innerloop_vos.training.loop import CHECKPOINT

_CHANNELS = 6
"""How many labels a picture of them shows."""

_DOWNLOAD = "default"
VARIANTS = ("released", "paper")

_DATA = {
    "youtube-vos": "YouTube-VOS 2019, with train and valid",
    "youtube-vos-2018": "YouTube-VOS 2018, with valid",
    "davis": "DAVIS 2017 (or, for 2016, both in one), with train and val",
    "davis-test-dev": "DAVIS 2017 with test-dev",
    "coco": "COCO, with train2017",
}
_FILES = {
    "mask-rcnn": "weights that LWL starts from: maskrcnn-benchmark's e2e_mask_rcnn_R_50_FPN_1x.pth",
    "imagenet": "weights that some trainings of LWL start from: torchvision's ResNet-50",
    "detector": "weights that e-OSVOS starts from: torchvision's Mask R-CNN (default: it is "
    "downloaded)",
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        "Train and measure all that a table or a figure of the papers needs, and "
        "print its figures beside those of the paper. Run again with the same DIR, it goes on "
        "where it stopped; tables share their trainings and measurements. DIR/TABLE.json has the "
        "figures, DIR/TABLE.png the picture of a figure. Started by torchrun, the processes share "
        "the work."
    )
    parser.add_argument("table", metavar="TABLE", help=f"one of: {', '.join(table_names())}")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of all that is made")
    group = parser.add_argument_group("data and weights")
    for name, what in (_DATA | _FILES).items():
        default = _DOWNLOAD if name == "detector" else None
        kind = "ROOT" if name in _DATA else "FILE"
        group.add_argument(f"--{name}", metavar=kind, default=default, help=what)
    group.add_argument(
        "--use",
        metavar="TRAINING=FILE",
        action="append",
        default=[],
        help="weights in the place of a training that was made elsewhere, such as "
        "lwl=lwl_stage2.safetensors; may be given several times",
    )
    group = parser.add_argument_group("how")
    group.add_argument(
        "--variant",
        choices=VARIANTS,
        default=VARIANTS[0],
        help="settings of LWL's trainings where the paper and the released system differ "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--small",
        action="store_true",
        help="a few steps of small networks on --davis alone, or more if given, measured on the "
        "last two sequences of its train split: to see that all runs",
    )
    group.add_argument(
        "--train-with",
        metavar="OPTIONS",
        default="",
        help='further options of all trainings, such as "--accumulate 5"',
    )
    group.add_argument(
        "--evaluate-with", metavar="OPTIONS", default="", help="further options of all evaluations"
    )
    group.add_argument(
        "--print-commands",
        action="store_true",
        help="print the commands that would run, and do nothing else",
    )
    add_device_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Make the table."""
    table = read_table(arguments.table)
    choices = _choices(arguments)
    plan = Plan(table, choices)
    if arguments.print_commands:
        trained = [training.words for training in plan.trained.values()]
        for words in (*trained, *(each.words for each in _measurements(table, plan))):
            print("innerloop-vos", shlex.join(words))
        return
    _check_places(arguments, choices)
    _check_commands(plan)
    prepare_output(choices.out)
    with processes.connected(parse_device(arguments.device)):
        for training in plan.trained.values():
            resume = ("--resume",) if (training.out / CHECKPOINT).exists() else ()
            _call((*training.words, *resume))
        for measured in _measurements(table, plan):
            _call(measured.words)
        if processes.rank() == 0:
            results = read_results(table, plan, _opened)
            if table.pictures:
                _PICTURES[table.pictures](choices.out / f"{table.name}.png", table, plan, results)
            about = {name: value for name, value in vars(arguments).items() if name != "run"}
            show_results(table, results, choices.out, about)


def _choices(arguments: argparse.Namespace) -> Choices:
    given = vars(arguments)
    weights = {}
    for word in arguments.use:
        name, equals, path = word.partition("=")
        if not equals:
            raise InputError(f"--use: {word!r}, should be TRAINING=FILE")
        weights[name] = path
    return Choices(
        Path(arguments.out),
        {name: given[name.replace("-", "_")] for name in (*_DATA, *_FILES)},
        arguments.variant,
        arguments.small,
        _words(arguments, "train_with"),
        _words(arguments, "evaluate_with"),
        weights,
        arguments.device,
    )


def _words(arguments: argparse.Namespace, name: str) -> Words:
    text = getattr(arguments, name)
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"--{name.replace('_', '-')}: {text!r}: {error}") from error


def _check_places(arguments: argparse.Namespace, choices: Choices) -> None:
    out = choices.out
    files = {f"--{name}": [choices.given[name]] for name in _FILES}
    check_outputs(
        {"--out": [out, *(out / f"{arguments.table}.{kind}" for kind in ("json", "png"))]},
        files | {"--use": list(choices.weights.values())},
        {f"--{name}": data_folders(choices.given[name]) for name in _DATA},
    )


def _check_commands(plan: Plan) -> None:
    """Check what the last command reads before the first one trains for days."""
    given = {f"--{name}": path for name, path in plan.choices.given.items() if path != _DOWNLOAD}
    used = {f"--use {name}": path for name, path in plan.choices.weights.items()}
    for option, path in (given | used).items():
        if path is not None and not Path(path).exists():
            raise InputError(f"{option}: there is no {path}")
    for training in plan.trained.values():
        parse(training.words)
    for several in plan.measured.values():
        for measured in several:
            _opened(measured.words)


def _measurements(table: Table, plan: Plan) -> list[Measured]:
    """Those that something is read from, each once, for rows may share them."""
    wanted = [each for at, each in plan.measured.items() if table.columns[at[1]]]
    return list(dict.fromkeys(measured for several in wanted for measured in several))


def _call(words: Words) -> None:
    if processes.rank() == 0:
        print("innerloop-vos", shlex.join(words), flush=True)
    arguments = parse(words)
    arguments.run(arguments)


def _draw_masks(path: Path, table: Table, plan: Plan, results: Results) -> None:
    for result in results.values():
        draw_masks(path, result.measured.out, result.dataset, table.frames)


def _draw_labels(path: Path, table: Table, plan: Plan, results: Results) -> None:
    ((row, measure),) = ((row, measure) for row in table.rows for measure in row.trainings)
    network = load_lwl(plan.weights[row.trainings[measure]])
    pictures: list[Tensor] = []
    dataset = _opened(plan.measured[row.name, measure][0].words)
    for sequence in dataset:
        index, ids = next(iter(sequence.given().items()))
        mask = ids == ids[ids > 0].min()
        pictures += label_pictures(network, sequence.frames[index], mask, _CHANNELS)
    lines = 2 * len(dataset.names)
    contact_sheet(pictures, path, columns=len(pictures) // lines, width=240)


_PICTURES = {"masks": _draw_masks, "labels": _draw_labels}


def _opened(words: Words) -> SequenceFolders:
    return open_dataset(parse(words))
