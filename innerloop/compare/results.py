"""The results of a suite, and the files that hold them."""

import csv
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from innerloop._files import atomic_path

Verdict = Literal["exact", "wrong", "approximate", "failed", "not installed"]
"""Whether a row's claim to give the exact meta-gradient holds ("approximate": it claims none), or
why nothing was measured."""

PACKAGES = ("innerloop", "torch", "higher", "learn2learn", "torchopt")


@dataclass(frozen=True)
class Figures:
    """The measurements of a row; ratios are to the baseline's figure.

    Attributes:
        loss: loss after all steps.
        distance: distance of the solution from the exact one, relative to its norm.
        gradient_error: relative error of the meta-gradient, in single precision.
        gradient_error_float64: the same in double precision, without the effect of rounding.
        forward_ms, backward_ms: medians, milliseconds.
        forward_spread_ms, backward_spread_ms: half the interquartile ranges.
        memory_mb: peak of the tensors alive, MB.
        losses: inner loss after 0 to k steps in double precision; empty where not reported.
    """

    loss: float
    loss_ratio: float | None
    distance: float | None
    distance_ratio: float | None
    gradient_error: float
    gradient_error_ratio: float | None
    gradient_error_float64: float
    forward_ms: float
    forward_spread_ms: float
    forward_ratio: float | None
    backward_ms: float
    backward_spread_ms: float
    backward_ratio: float | None
    memory_mb: float
    memory_ratio: float | None
    losses: list[float]


@dataclass(frozen=True)
class RowResult:
    """A row, with its figures if it ran; `note` says why it did not, or what went wrong."""

    name: str
    kind: str
    verdict: Verdict
    note: str = ""
    figures: Figures | None = None


@dataclass(frozen=True)
class SuiteResult:
    """A suite's rows; `exact_loss` is the reference's loss."""

    name: str
    description: str
    reference: str
    baseline: str
    steps: int
    rounds: int
    exact_loss: float
    rows: list[RowResult]


def machine() -> dict[str, str | int]:
    """The kind of machine, and the threads that torch uses on it."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are compared, those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_json(path: Path, suites: Sequence[SuiteResult]) -> None:
    """Write everything, with machine and versions; numbers that are not finite become null."""
    document = {
        "machine": machine(),
        "versions": versions(),
        "suites": [_finite(asdict(suite)) for suite in suites],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, suites: Sequence[SuiteResult]) -> None:
    """Write one line per row; cells of what was not measured are empty."""
    columns = [field.name for field in fields(Figures) if field.name != "losses"]
    header = ["suite", "row", "kind", "verdict", "note", "baseline", *columns]
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        for suite in suites:
            for row in suite.rows:
                line = {"suite": suite.name, "row": row.name, "baseline": suite.baseline}
                line |= {"kind": row.kind, "verdict": row.verdict, "note": row.note}
                if row.figures is not None:
                    line |= {column: getattr(row.figures, column) for column in columns}
                writer.writerow(line)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _cpu_model() -> str:
    """The name of the CPU, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()
