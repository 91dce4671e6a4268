"""What the steps of a solve report, kept in few tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop.autodiff import transforming
from innerloop.solvers.base import StepStats

_ROWS = 256


class Reports:
    """The reports of all steps, a row a step.

    They are written into tensors made once: small tensors that outlive a step would lie between
    the blocks of memory that it frees, and keep the allocator from giving these back.

    Args:
        before: reports of earlier steps of the same solve, to which `settled` compares. Default:
            none.
    """

    def __init__(self, before: "Reports | None" = None) -> None:
        self._first: Tensor | None = None if before is None else before._first
        self._last: Tensor | None = None
        self._count = 0
        self._table: StepStats | None = None
        self._list: list[StepStats] = []

    def __len__(self) -> int:
        return self._count

    def add(self, report: StepStats) -> None:
        """Write down what a step reports."""
        # Without its graph: checkpoints, which are part of graphs, refer to the reports.
        self._last = report.gradient_norm.detach()
        if transforming():  # what is batched there cannot be written into what is not
            self._list.append(report)
            if self._first is None:
                self._first = report.gradient_norm
        else:
            self._table = _grown(self._table, report, self._count)
            for column, value in _pairs(self._table, report):
                column[self._count] = value.detach()
            if self._first is None:
                self._first = self._table.gradient_norm[0]
        self._count += 1

    def extend(self, reports: StepStats) -> None:
        """Write down what several steps report, each entry of shape (steps, *batch)."""
        for row in range(len(reports.loss)):
            self.add(StepStats._make(None if v is None else v[row] for v in reports))

    def stacked(self) -> StepStats | None:
        """All reports, each entry of shape (steps, *batch); None before the first step."""
        if self._list:
            columns = zip(*self._list, strict=True)
            return StepStats._make(None if c[0] is None else torch.stack(c) for c in columns)
        if self._table is None:
            return None
        return StepStats._make(None if v is None else v[: self._count] for v in self._table)

    def resemble(self, losses: Tensor, others: Tensor) -> bool:
        """Whether losses of the same steps are equal but for rounding.

        The scale is that of the first losses of the solve: what is left at a minimum may be nothing
        but rounding.
        """
        if losses.shape != others.shape:
            return False
        start = losses if self._table is None else self._table.loss[:1]
        scale = start.abs().nan_to_num(0.0, 0.0, 0.0).amax(0)
        eps = torch.finfo(losses.dtype).eps
        close = (losses - others.detach()).abs() <= eps**0.5 * torch.maximum(
            scale, losses.abs()
        ) + eps
        same = close | (losses == others) | (losses.isnan() & others.isnan())
        return bool(same.all())

    def settled(self, tolerance: float) -> Tensor:
        """Whether each problem's gradient norm fell to `tolerance` times its first one."""
        assert self._first is not None
        assert self._last is not None
        return self._last <= tolerance * self._first


def _pairs(table: StepStats, report: StepStats) -> Sequence[tuple[Tensor, Tensor]]:
    return [(a, b) for a, b in zip(table, report, strict=True) if a is not None and b is not None]


def _grown(table: StepStats | None, report: StepStats, count: int) -> StepStats:
    """The table with room for another row."""
    if table is None:
        return StepStats._make(None if v is None else v.new_empty(_ROWS, *v.shape) for v in report)
    if count < len(table.loss):
        return table
    return StepStats._make(
        None if v is None else torch.cat([v, torch.empty_like(v)]) for v in table
    )
