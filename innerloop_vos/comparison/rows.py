"""The rows of the table: methods that were measured, and published systems."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from innerloop_vos.published import Result
from innerloop_vos.scoring import SequenceScores, overall_summary
from innerloop_vos.scoring.report import frames_per_second

QUALITY = ("J", "F", "J&F", "J decay")


@dataclass(frozen=True)
class Row:
    """A method, or a published system.

    Args:
        name: its name.
        task: what it is given: "semi-supervised", "from boxes" or "unsupervised".
        quality: those of `QUALITY` that are known, in percent.
        speed: frames per second; None where it is not known.
        memory: peak of memory in bytes; None where it is not known.
        parameters: number of parameters of its networks; None where it is not known.
        source: of a published system, the paper and the table; empty for what was measured.
    """

    name: str
    task: str
    quality: Mapping[str, float]
    speed: float | None
    memory: int | None = None
    parameters: int | None = None
    source: str = ""


def measured(name: str, task: str, scores: Sequence[SequenceScores], parameters: int) -> Row:
    """The row of a method.

    Args:
        name: of the method.
        task: what it was given.
        scores: of all sequences.
        parameters: of its networks.
    """
    quality: dict[str, float] = {}
    if any(each.objects for each in scores):
        summary = overall_summary(scores)
        values = (
            summary.region.mean,
            summary.contour.mean,
            summary.overall,
            summary.region.decay,
        )
        quality = {name: 100 * value for name, value in zip(QUALITY, values, strict=True)}
    memory = max((each.memory for each in scores if each.memory is not None), default=None)
    return Row(name, task, quality, frames_per_second(scores), memory, parameters)


def published(results: Iterable[Result]) -> list[Row]:
    """The rows of published systems."""
    rows = []
    for result in results:
        quality = {name: result.figures[name] for name in QUALITY if name in result.figures}
        if result.overall is not None:
            quality["J&F"] = result.overall
        source = f"{result.source} {result.where}".strip()
        rows.append(Row(result.name, result.task, quality, result.speed, source=source))
    return rows


def count_parameters(segmenter: object) -> int:
    """Count the parameters of the networks that a segmenter has as attributes, each once."""
    networks = [value for value in vars(segmenter).values() if isinstance(value, nn.Module)]
    parameters = {id(each): each for network in networks for each in network.parameters()}
    return sum(each.numel() for each in parameters.values())
