"""What do co-attention, its references and their selection contribute to COSNet?

Trains one network per form of co-attention, in a folder each of --work; one that holds only weights
is taken as it is. The symmetric one is measured with several numbers of references, and with
references that are selected in several ways. Held-out clips are segmented without a mask, and
their annotated frames scored, all objects as one. An interrupted call continues where it stopped.
Prints the mean J and F beside the J of the paper, and writes ablation.json. Options of the data
and of the training are those of `innerloop-vos train cosnet`; --held-out-frames says how many
frames of each clip are segmented, spread over it.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.cosnet.ablation --work FOLDER \\
        --davis ROOT --clips IMAGES --held-out NAMES [--held-out-frames N] [--output FOLDER]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from innerloop_vos.cosnet import FORMS, COSNetOptions, COSNetSegmenter, cosnet
from innerloop_vos.cosnet.builders import FAMILY
from innerloop_vos.cosnet.training.settings import COSNetSettings
from innerloop_vos.cosnet.training.siamese import COSNetTraining
from innerloop_vos.io.files import atomic_path
from innerloop_vos.runs.folder import check_same, digest
from innerloop_vos.training.data import add_data_arguments, open_foreground
from innerloop_vos.training.loop import CHECKPOINT, run
from innerloop_vos.training.options import add_settings_arguments, read_settings
from innerloop_vos.training.validation import UnsupervisedValidation


class Row(NamedTuple):
    """A network, and how it segments."""

    form: str = "symmetric"
    references: int = 5
    selection: str = "uniform"

    def __str__(self) -> str:
        return f"{self.form}, {self.references}, {self.selection}"


TABLES: dict[str, dict[str, tuple[Row, float]]] = {
    "co-attention": {
        "vanilla": (Row("vanilla"), 80.0),
        "symmetric": (Row(), 80.5),
        "channel-wise": (Row("channel"), 77.2),
        "none": (Row("none", 0), 71.3),
    },
    "references": {
        "0": (Row(references=0), 71.3),
        "1": (Row(references=1), 77.6),
        "2": (Row(references=2), 79.7),
        "5": (Row(), 80.5),
        "7": (Row(references=7), 80.5),
    },
    "selection": {
        "global uniform": (Row(), 80.53),
        "global random": (Row(selection="random"), 80.52),
        "local consecutive": (Row(selection="local"), 80.26),
    },
}
"""Each row with the mean J of the paper on DAVIS 2016, in percent: slides "COSNet: Ablation study",
tables 1 and 2."""

Figures = dict[str, float]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument(
        "--short-side", type=int, default=COSNetOptions.short_side, help="of what is looked at"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "ablation"
    )
    add_data_arguments(parser)
    add_settings_arguments(parser, COSNetSettings())
    arguments = parser.parse_args(words)
    tables = {name: TABLES[name] for name in arguments.tables}
    rows = dict.fromkeys(row for table in tables.values() for row, _ in table.values())
    forms = [form for form in FORMS if any(row.form == form for row in rows)]
    weights = {form: _trained(form, arguments) for form in forms}
    about = {
        "held out": ",".join(arguments.held_out),
        "frames": arguments.held_out_frames,
        "short side": arguments.short_side,
        "weights": {form: digest([path]) for form, path in weights.items()},
    }
    path = arguments.output / "ablation.json"
    known = _known(path, about)
    validation = open_foreground(arguments, 2)[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    for form in forms:
        left = [row for row in rows if row.form == form and str(row) not in known]
        network = cosnet(weights[form]) if left else None
        for row in left:
            options = COSNetOptions(row.references, row.selection, arguments.short_side)
            found = validation.figures(COSNetSegmenter(network, options))
            known[str(row)] = {name: 100 * found[f"held out/{name}"] for name in ("J", "F")}
            print(f"{row}: J {known[str(row)]['J']:.1f}", flush=True)
            with atomic_path(path) as temporary:
                content = {"about": about, "rows": known}
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    show(tables, known)


def show(tables: dict[str, dict[str, tuple[Row, float]]], rows: dict[str, Figures]) -> None:
    """Print tables, of rows by their names."""
    for title, table in tables.items():
        print(f"\n{title:20}{'J':>8}{'F':>8}{'paper, J':>12}")
        for name, (row, paper) in table.items():
            figures = rows[str(row)]
            print(f"{name:20}{figures['J']:8.1f}{figures['F']:8.1f}{paper:12.1f}")


def _trained(form: str, arguments: argparse.Namespace) -> Path:
    """Train a network, or go on, where that is not done; returns its weights."""
    folder = arguments.work / form
    path: Path = folder / FAMILY.file
    resume = (folder / CHECKPOINT).exists()
    if path.exists() and not resume:
        return path
    settings = read_settings(arguments, COSNetSettings())
    torch.manual_seed(settings.seed)
    videos, images, _ = open_foreground(arguments, 2)
    network = cosnet("imagenet", co_attention=form)
    training = COSNetTraining(network, videos, images, UnsupervisedValidation((), 3), settings)
    if not run(training, folder, settings.iterations, every=500, resume=resume):
        raise KeyboardInterrupt
    return path


def _known(path: Path, about: dict[str, Any]) -> dict[str, Figures]:
    """The rows that were measured before."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    # Networks that this call does not need may have been measured too.
    before, now = ({**each, "weights": None} for each in (content["about"], about))
    check_same(before, now, str(path))
    weights = content["about"]["weights"]
    shared = weights.keys() & about["weights"].keys()
    check_same(
        {form: weights[form] for form in shared},
        {form: about["weights"][form] for form in shared},
        str(path),
    )
    about["weights"] = weights | about["weights"]
    known: dict[str, Figures] = content["rows"]
    return known


if __name__ == "__main__":
    main()
