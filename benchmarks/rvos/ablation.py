"""What do the recurrences of RVOS contribute, and training on its own masks? At any scale.

Trains a network per row of the paper's tables 1 and 5: recurrence over objects (S), over frames (T)
or both (ST), in the one-shot task also on the masks that it finds itself (ST+), and in the
zero-shot task. Measures J and F on the held-out clips. The paper's figures, which stand beside, are
of a large network on YouTube-VOS: only differences between rows can be compared.

The folder --work has one folder per training. An interrupted call continues where it stopped.
Prints a table and writes ablation.json. Options of the data and of the training are those of
`innerloop-vos train rvos`.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.rvos.ablation --work FOLDER --davis ROOT \\
        --held-out NAMES [--clips ROOT,ROOT] [--rows NAME ...] [--output FOLDER]
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from innerloop_vos.data.sampling import Sampler
from innerloop_vos.io.files import atomic_path
from innerloop_vos.runs.folder import check_same
from innerloop_vos.rvos import rvos
from innerloop_vos.rvos.training.end_to_end import RVOSTraining
from innerloop_vos.rvos.training.settings import RVOSSettings
from innerloop_vos.training.data import add_data_arguments, open_tracks
from innerloop_vos.training.loop import CHECKPOINT, run
from innerloop_vos.training.options import add_settings_arguments, read_settings
from innerloop_vos.training.validation import Validation

SETTINGS = RVOSSettings(iterations=400, batch_size=2, bfloat16=True)
"""Of the trainings, where the command line has no others."""

Figures = dict[str, float]


class Row(NamedTuple):
    """How the network of a row is trained, and what the slides give for it, in percent."""

    task: Literal["one-shot", "zero-shot"]
    recurrence: Literal["S", "T", "ST"]
    inferred: bool
    paper: tuple[float | None, ...]


COLUMNS = ("J&F", "J", "F", "J seen", "J unseen", "F seen", "F unseen")
"""First three: measured here; the others: of the slides, on YouTube-VOS."""

ROWS = {
    "one-shot S": Row("one-shot", "S", False, (54.7, 37.3, 57.4, 42.4)),
    "one-shot T": Row("one-shot", "T", False, (59.9, 39.2, 63.1, 45.6)),
    "one-shot ST": Row("one-shot", "ST", False, (60.8, 44.6, 63.7, 50.3)),
    "one-shot ST+": Row("one-shot", "ST", True, (63.1, 44.5, 67.1, 50.4)),
    "zero-shot S": Row("zero-shot", "S", False, (40.8, 19.9, 43.9, None)),
    "zero-shot T": Row("zero-shot", "T", False, (37.1, 20.2, 38.7, None)),
    "zero-shot ST": Row("zero-shot", "ST", False, (44.7, 21.2, 45.0, 23.9)),
}


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--work", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    add_data_arguments(parser)
    default = Path(__file__).parent / "results" / "ablation"
    parser.add_argument("--output", type=Path, default=default)
    add_settings_arguments(parser, SETTINGS, without=("task", "inferred_from"))
    return parser.parse_args(words)


def measure(
    row: Row, settings: RVOSSettings, sampler: Sampler, held_out: Validation, folder: Path
) -> Figures:
    """Train the network of a row, or continue a training, and measure it, in percent."""
    own = replace(
        settings, task=row.task, inferred_from=settings.inferred_from if row.inferred else 1.0
    )
    torch.manual_seed(own.seed)  # the first weights
    network = rvos("imagenet", recurrence=row.recurrence)
    # Measured below, once.
    training = RVOSTraining(network, sampler, Validation([], held_out.frames), own)
    resume = (folder / CHECKPOINT).exists()
    if not run(training, folder, own.iterations, every=25, resume=resume):
        raise KeyboardInterrupt
    training.validation = held_out
    found = training.evaluate()
    prefix = "held out/" if row.task == "one-shot" else "held out/zero-shot "
    figures = {measure: 100 * found[prefix + measure] for measure in ("J", "F")}
    return {"J&F": (figures["J"] + figures["F"]) / 2} | figures


def show(name: str, figures: dict[str, Any]) -> None:
    """Print a row."""
    cells = [figures[column] for column in COLUMNS]
    shown = ["" if cell is None else f"{cell:.1f}" for cell in cells]
    print(f"{name:14}" + "".join(f"{cell:>10}" for cell in shown), flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    arguments = parse(words)
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    settings = read_settings(arguments, SETTINGS)
    sampler, held_out = open_tracks(arguments, settings.frames, settings.fastest, paste=0.0)
    shared = {n: value for n, value in asdict(settings).items() if n != "task"}
    clips = [clip.name for clip in held_out.clips]
    about = {"sequences": clips, "frames of each": held_out.frames, **shared}
    path = arguments.work / "measured.json"
    rows: dict[str, Any] = {}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        check_same(kept["about"], about, str(path))
        rows = kept["rows"]
    print(" " * 14 + "".join(f"{column:>10}" for column in COLUMNS))
    for name in arguments.rows:
        if name not in rows:
            row, folder = ROWS[name], arguments.work / name.replace(" ", "-")
            figures = measure(row, settings, sampler, held_out, folder)
            rows[name] = figures | dict(zip(COLUMNS[3:], row.paper, strict=True))
        show(name, rows[name])
        for file in (path, arguments.output / "ablation.json"):
            with atomic_path(file) as temporary:
                written = {"about": about, "rows": rows}
                temporary.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
