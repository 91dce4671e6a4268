"""Draws the pictures of all results again, each beside the JSON file that it shows.

The pictures of `innerloop compare` are not among them, as they show more than is kept.

    python -m benchmarks.pictures [--only lwl]
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.core import (
    convergence,
    hypergradients,
    maml_peers,
    maml_speed,
    memory,
    minimisation,
    more_garbow_hillstrom,
    omniglot,
    processes,
    steepest_descent,
    sufficient_statistics,
    time_to_error,
)
from benchmarks.eosvos import finetune, iterations, rates, table1
from benchmarks.lwl import front, speed
from benchmarks.reproduce import loss_curves, paper_scale
from innerloop_vos.training.curve import CURVE, Curve

HERE = Path(__file__).parent
Draw = Callable[[Any, Path], None]
"""Draws the content of a JSON file into a PNG file."""


def draw_curve(history: list[dict[str, float]], picture: Path) -> None:
    """The curve of a training."""
    with tempfile.TemporaryDirectory() as folder:
        Curve(Path(folder), history).write()
        shutil.copyfile(Path(folder, CURVE[1]), picture)


def draw_speed(content: dict[str, Any], picture: Path) -> None:
    """Time and memory of a meta-step."""
    found = {name: maml_speed.Measurement(**row) for name, row in content["results"].items()}
    maml_speed.plot(found, picture)


PICTURES: dict[str, Draw] = {
    "core/results/convergence/*.json": convergence.plot,
    "core/results/hypergradients/*.json": hypergradients.plot,
    "core/results/maml_peers/*.json": maml_peers.plot,
    "core/results/maml_speed/**/*.json": draw_speed,
    "core/results/memory/*.json": memory.plot,
    "core/results/minimisation/*.json": lambda rows, picture: minimisation.plot(
        [minimisation.Row(**row) for row in rows], picture
    ),
    "core/results/more_garbow_hillstrom/*.json": lambda rows, picture: more_garbow_hillstrom.plot(
        [more_garbow_hillstrom.Row(**row) for row in rows], picture
    ),
    "core/results/omniglot/*.json": omniglot.plot,
    "core/results/processes/*.json": processes.plot,
    "core/results/steepest_descent/*.json": lambda content, picture: steepest_descent.plot(
        content["times"], picture
    ),
    "core/results/sufficient_statistics/*.json": sufficient_statistics.plot,
    "core/results/time_to_error/*.json": time_to_error.plot,
    "eosvos/results/finetune/*.json": finetune.plot,
    "eosvos/results/iterations/*.json": lambda content, picture: iterations.plot(
        content["networks"], picture
    ),
    "eosvos/results/rates/*.json": lambda content, picture: rates.plot(content["layers"], picture),
    "eosvos/results/table1/*.json": lambda content, picture: table1.plot(content["cases"], picture),
    "lwl/results/ablation/*.json": front.draw,
    "lwl/results/backbone/*.json": draw_curve,
    "lwl/results/front/*.json": front.draw,
    "lwl/results/lite/*.json": draw_curve,
    "lwl/results/ridge/*/*.json": front.draw,
    "lwl/results/speed/*.json": speed.draw,
    "reproduce/results/loss_curves/*.json": loss_curves.draw,
    "reproduce/results/paper_scale/*.json": paper_scale.draw,
}
"""By the files that each draws."""


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="results whose path contains this")
    arguments = parser.parse_args()
    for pattern, draw in PICTURES.items():
        for path in sorted(HERE.glob(pattern)):
            name = str(path.relative_to(HERE))
            if arguments.only in name:
                picture = path.with_suffix(".png")
                draw(json.loads(path.read_text(encoding="utf-8")), picture)
                print(picture.relative_to(HERE.parent))


if __name__ == "__main__":
    main()
