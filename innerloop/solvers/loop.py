"""The loop of inner steps, as run by adjoints and inner linear solves."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from innerloop._autodiff import transforming
from innerloop.problems.base import Solvable
from innerloop.solvers.base import Solver, StepStats
from innerloop.solvers.reports import OnStep, Reports
from innerloop.trees import Tree

Step = Callable[[Solvable, Tree, Any], tuple[Tree, Any, StepStats]]


class Progress(NamedTuple):
    """The progress of a loop; its reports are extended."""

    params: Tree
    state: Any
    reports: Reports
    taken: int = 0
    """Steps so far."""


@dataclass(eq=False)
class LinearSolve:
    """The outcome of the linear system of an implicit gradient, known once the gradient is taken.

    Attributes:
        residual: |H u − b| / |b| of the latest system, per problem, shape (*batch). None before
            the gradient is taken, and under torch.compile and torch.func transforms.
        solution: u of the first system, that of the gradient, without gradient, structured like the
            parameters; None where `residual` is. The next system of the same problem, after an
            outer step, can start from it: `Implicit(start=solution.linear.solution)`.
    """

    residual: Tensor | None = None
    solution: Tree | None = None


class Outcome(NamedTuple):
    """The result of a solve."""

    params: Tree
    reports: Reports
    """The reports of all steps."""
    carried: Any = None
    """The part of the solver's state from which a later solve can continue."""
    linear: LinearSolve | None = None
    """The outcome of the linear systems of the gradient, if there are any."""
    adjoint: str | None = None
    """Which adjoint was chosen and why, if it was."""


@dataclass(frozen=True)
class Loop:
    """A solver about to take `steps` steps on a problem."""

    problem: Solvable
    solver: Solver
    steps: int
    tolerance: float = 0.0
    carried: Any = None
    """The state of an earlier solve; None to start fresh."""
    on_step: OnStep | None = None
    """See `solve`."""
    before: Reports | None = None
    """The reports of earlier steps of the same solve, to which the tolerance refers too."""

    def run(self, init: Tree) -> Outcome:
        """Take all steps from `init`, in the coordinates that suit them."""
        coordinates = self.solver.coordinates(self.problem, init, self.steps, self.carried)
        if coordinates is None:
            progress = self.advance(self.begin(init), self.steps)
            return self.outcome(progress)
        inner = replace(self, problem=coordinates, carried=None)
        progress = inner.advance(inner.begin(coordinates.start), self.steps)
        params, carried = coordinates.lift(progress.params)
        return Outcome(params, progress.reports, carried)

    def begin(self, params: Tree) -> Progress:
        state = self.carried
        if state is None:
            state = self.solver.init(self.problem, params)
        return Progress(params, state, Reports(self.before, self.on_step))

    def outcome(self, progress: Progress) -> Outcome:
        """The result of a solve that ends here."""
        return Outcome(progress.params, progress.reports, self.solver.carried(progress.state))

    def advance(self, progress: Progress, steps: int, step: Step | None = None) -> Progress:
        """Take up to `steps` more steps, with `step` instead of the solver's own if given."""
        step = step or self.solver.step
        for number in range(progress.taken, progress.taken + steps):
            problem = self.problem.at(number)
            params, state, report = step(problem, progress.params, progress.state)
            progress = Progress(params, state, progress.reports, number + 1)
            progress.reports.add(report)
            if self.done(progress):
                break
        return progress

    def done(self, progress: Progress) -> bool:
        """Whether every problem is solved to the tolerance, or not changed by further steps."""
        # Reading a value waits for the device, and is impossible under a transform.
        if transforming():
            return False
        finished = self.solver.finished(progress.state)
        if finished is not None and bool(finished.all()):
            return True
        return self.tolerance > 0 and bool(progress.reports.settled(self.tolerance).all())
