"""The loop of inner steps, which adjoints and inner linear solves drive."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from innerloop.autodiff import transforming
from innerloop.problems.base import Problem
from innerloop.solvers.base import Solver, StepStats
from innerloop.solvers.reports import Reports
from innerloop.trees import Tree

Step = Callable[[Problem, Tree, Any], tuple[Tree, Any, StepStats]]


class Progress(NamedTuple):
    """Where a loop stands; the reports are written on."""

    params: Tree
    state: Any
    reports: Reports


@dataclass(eq=False)
class LinearSolve:
    """What the linear system of an implicit gradient came to, known once the gradient is taken.

    Attributes:
        residual: |H u − b| / |b| of the latest system, per problem, shape (*batch). None before
            the gradient is taken, and under torch.compile and torch.func transforms.
    """

    residual: Tensor | None = None


class Outcome(NamedTuple):
    """What a solve reached."""

    params: Tree
    reports: Reports
    """What every step reported."""
    prediction: Tensor | None = None
    """Of a linear problem at `params`, where the solver kept it."""
    linear: LinearSolve | None = None
    """What comes of the linear systems of the gradient, where there are any."""


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
        return Progress(params, self.solver.init(self.problem, params), Reports())

    def advance(self, progress: Progress, steps: int, step: Step | None = None) -> Progress:
        """Take up to `steps` more steps, with `step` in place of the solver's own if given."""
        step = step or self.solver.step
        for _ in range(steps):
            params, state, report = step(self.problem, progress.params, progress.state)
            progress = Progress(params, state, progress.reports)
            progress.reports.add(report)
            if self.done(progress.reports):
                break
        return progress

    def done(self, reports: Reports) -> bool:
        """Whether every problem is solved to the tolerance."""
        # Reading a value waits for the device and is impossible under a transform.
        if self.tolerance == 0 or transforming():
            return False
        return bool(reports.settled(self.tolerance).all())
