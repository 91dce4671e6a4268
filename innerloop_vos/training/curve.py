"""The curve of a training: figures over the iterations, as files and in TensorBoard."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVE = ("curve.json", "curve.png")

Figures = dict[str, float]
"""Figures by name; `"group/name"` puts those of a group into one panel of the curve."""


class Curve:
    """Figures over the iterations of a training.

    Args:
        folder: existing folder for `curve.json` and `curve.png`.
        history: records of the iterations before, each with `"iteration"` and figures.
        board: writer of TensorBoard, which gets the same figures.
    """

    def __init__(
        self, folder: Path, history: list[Figures], board: "SummaryWriter | None" = None
    ) -> None:
        self.folder, self.history, self.board = folder, history, board

    def add(self, iteration: int, figures: Figures) -> None:
        """Add figures of an iteration."""
        self.history.append({"iteration": iteration} | figures)
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(name, value, iteration)

    def show(self, iteration: int, pictures: dict[str, Tensor]) -> None:
        """Show pictures, RGB in 0..1, `(3, H, W)`, in TensorBoard."""
        if self.board is not None:
            for name, picture in pictures.items():
                self.board.add_image(name, picture, iteration)

    def write(self) -> None:
        """Write `curve.json` and `curve.png`, with a panel per group.

        Raises:
            InputError: the folder cannot be written to.
        """
        with atomic_path(self.folder / CURVE[0]) as temporary:
            temporary.write_text(json.dumps(self.history, indent=1) + "\n", encoding="utf-8")
        _plot(self.history, self.folder / CURVE[1])
        if self.board is not None:
            self.board.flush()


def open_board(folder: Path, first: int) -> "SummaryWriter":
    """Open TensorBoard's log of a training.

    Args:
        folder: folder of the log, which is appended to.
        first: the next iteration; records of an earlier run from there on are hidden.

    Raises:
        InputError: TensorBoard is not installed.
    """
    # It takes seconds to import.
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("tensorboard: it is not installed: pip install innerloop[train]") from None
    return SummaryWriter(folder, purge_step=first)


def _plot(history: list[Figures], path: Path) -> None:
    # matplotlib takes a second to import, and only trainings plot.
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(n for record in history for n in record if n != "iteration"))
    groups = list(dict.fromkeys(name.partition("/")[0] for name in names))
    figure = Figure(figsize=(5 * max(1, len(groups)), 4), layout="constrained")
    for place, group in enumerate(groups, start=1):
        axes = figure.add_subplot(1, len(groups), place, title=group, xlabel="iteration")
        for name in names:
            if name.partition("/")[0] == group:
                points = [(r["iteration"], r[name]) for r in history if name in r]
                axes.plot(*zip(*points, strict=True), label=name.partition("/")[2] or name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
