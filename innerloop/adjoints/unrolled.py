"""Adjoints that differentiate through the steps themselves, all of them or the last."""

from typing import Any

import torch

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop.adjoints.base import Adjoint
from innerloop.adjoints.checkpoint import checkpoint
from innerloop.problems.checks import check_whole
from innerloop.solvers.base import StepStats
from innerloop.solvers.loop import Loop, Outcome, Progress
from innerloop.solvers.reports import Reports
from innerloop.trees import Tree


class Unroll(Adjoint):
    """Differentiate through every step: the exact gradient, at memory linear in the steps.

    Args:
        checkpoint: keep only the parameters after every so many steps, and run the steps between
            again for the gradient: memory of `steps / checkpoint` parameters plus `checkpoint`
            steps, for the time of one more solve. It is lowest where `checkpoint` is about the
            square root of the steps. Default: keep everything. Not under torch.compile (which makes
            its own such choice) or torch.func transforms.

    Source:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """

    def __init__(self, checkpoint: int | None = None) -> None:
        if checkpoint is not None:
            check_whole("checkpoint", checkpoint, 1)
        self.checkpoint = checkpoint

    def run(self, loop: Loop, init: Tree) -> Outcome:
        if self.checkpoint is None or not torch.is_grad_enabled():
            return loop.run(init)
        if transforming():
            raise ValueError(
                "adjoint: Unroll(checkpoint=...) does not work under torch.compile and torch.func "
                "transforms; Unroll() does"
            )
        progress = loop.begin(init)
        while (left := loop.steps - progress.taken) > 0:
            progress = _advance_checkpointed(loop, progress, min(self.checkpoint, left))
            if loop.done(progress):
                break
        return loop.outcome(progress)


def _advance_checkpointed(loop: Loop, progress: Progress, steps: int) -> Progress:
    before, taken = progress.reports, progress.taken

    def chunk(carried: tuple[Tree, Any]) -> tuple[Tree, Any, StepStats | None]:
        reached = loop.advance(Progress(*carried, Reports(before), taken), steps)
        return reached.params, reached.state, reached.reports.stacked()

    def same(first: Any, again: Any) -> bool:
        return before.resemble(first[2].loss, again[2].loss)

    params, state, reports = checkpoint(chunk, (progress.params, progress.state), same)
    before.extend(reports)
    return Progress(params, state, before, taken + len(reports.loss))


class Truncate(Adjoint):
    """Differentiate through the last steps alone: memory linear in their number.

    Neither `init` nor tensors that only earlier steps use receive a gradient.

    Args:
        steps: number of last steps that are differentiated, at least 1.

    Source:
        Shaban et al., Truncated Back-propagation for Bilevel Optimization, AISTATS 2019.
    """

    def __init__(self, steps: int) -> None:
        check_whole("steps", steps, 1)
        self.steps = steps

    def run(self, loop: Loop, init: Tree) -> Outcome:
        last = min(self.steps, loop.steps)
        if last == loop.steps:
            return loop.run(init)
        with torch.no_grad():
            progress = loop.advance(loop.begin(trees.detach(init)), loop.steps - last)
        progress = loop.advance(progress, last)
        return loop.outcome(progress)


class OneStep(Truncate):
    """Differentiate through the last step alone.

    Exact for a step that reaches the solution from anywhere (`Ridge`, Newton steps at convergence),
    otherwise wrong by about the factor by which a step reduces the error.

    Source:
        Bolte et al., One-step Differentiation of Iterative Algorithms, NeurIPS 2023.
    """

    def __init__(self) -> None:
        super().__init__(1)
