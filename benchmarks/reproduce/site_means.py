"""What do systems reach on sequences whose measures the benchmark's site shows frame by frame?

The site, davischallenge.org, shows J and F of every frame but the first and the last. FILE has them
as JSON: {system: {sequence: {"J": [...], "F": [...]}}}, as fractions of 1. Prints the means, in
percent: the figures of the source `site` in innerloop_vos/published/systems.toml.

    python -m benchmarks.reproduce.site_means FILE
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from innerloop_vos.published.reading import FIGURES
from innerloop_vos.scoring.statistics import Summary, average, summarize

PerFrame = Mapping[str, Mapping[str, Sequence[float]]]
"""Of a system: J and F of the frames, by sequence."""


def means(sequences: PerFrame) -> dict[str, float]:
    """The means over the sequences, in percent, by the names of figures."""
    summary = average(
        [Summary(summarize(each["J"]), summarize(each["F"])) for each in sequences.values()]
    )
    values = {"J&F": summary.overall}
    for name, of in (("J", summary.region), ("F", summary.contour)):
        values |= {name: of.mean, f"{name} recall": of.recall, f"{name} decay": of.decay}
    return {name: round(100 * values[name], 1) for name in FIGURES}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE", type=Path)
    per_frame: Mapping[str, PerFrame] = json.loads(parser.parse_args().file.read_text())
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("system", *FIGURES):
        table.add_column(name, justify="left" if name == "system" else "right")
    for system, sequences in per_frame.items():
        table.add_row(system, *(f"{value:.1f}" for value in means(sequences).values()))
    Console().print(table)


if __name__ == "__main__":
    main()
