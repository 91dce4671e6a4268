"""The loop of inner steps, which adjoints and inner linear solves drive."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from innerloop.autodiff import transforming
from innerloop.problems.base import Problem
from innerloop.solvers.base import Solver, StepStats
from innerloop.trees import Tree

Step = Callable[[Problem, Tree, Any], tuple[Tree, Any, StepStats]]


class Progress(NamedTuple):
    """Where a loop stands."""

    params: Tree
    state: Any
    reports: tuple[StepStats, ...] = ()


class Outcome(NamedTuple):
    """What a solve reached."""

    params: Tree
    reports: tuple[StepStats, ...]
    """What every step reported."""
    prediction: Tensor | None = None
    """Of a linear problem at `params`, where the solver kept it."""


@dataclass(frozen=True)
class Loop:
    """A solver about to take `steps` steps on a problem."""

    problem: Problem
    solver: Solver
    steps: int
    tolerance: float = 0.0
    prediction: Tensor | None = None

    def run(self, init: Tree) -> Outcome:
        """Take all steps from `init`, in the coordinates that suit them."""
        coordinates = None
        if self.solver.coordinate_free:
            coordinates = self.problem.coordinates(init, self.steps, self.prediction)
        if coordinates is None:
            progress = self.advance(self.begin(init), self.steps)
            return Outcome(progress.params, progress.reports)
        inner = replace(self, problem=coordinates)
        progress = inner.advance(inner.begin(coordinates.start), self.steps)
        params, prediction = coordinates.lift(progress.params)
        return Outcome(params, progress.reports, prediction)

    def begin(self, params: Tree) -> Progress:
        return Progress(params, self.solver.init(self.problem, params))

    def advance(self, progress: Progress, steps: int, step: Step | None = None) -> Progress:
        """Take up to `steps` more steps, with `step` in place of the solver's own if given."""
        step = step or self.solver.step
        for _ in range(steps):
            params, state, report = step(self.problem, progress.params, progress.state)
            progress = Progress(params, state, (*progress.reports, report))
            if self._done(progress.reports):
                break
        return progress

    def _done(self, reports: tuple[StepStats, ...]) -> bool:
        # Reading a value waits for the device and is impossible under a transform.
        if self.tolerance == 0 or transforming():
            return False
        return bool(settled(reports, self.tolerance).all())


def settled(reports: tuple[StepStats, ...], tolerance: float) -> Tensor:
    """Whether each problem's gradient norm fell to `tolerance` times its first one."""
    return reports[-1].gradient_norm <= tolerance * reports[0].gradient_norm
