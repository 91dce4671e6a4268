"""An adjoint that is chosen by the memory that it needs."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop._torch import pytree
from innerloop.adjoints.base import Adjoint
from innerloop.adjoints.implicit import Implicit
from innerloop.adjoints.memory import GraphSize, free_memory, size_of
from innerloop.adjoints.unrolled import Unroll
from innerloop.solvers.base import check_not_negative
from innerloop.solvers.loop import Loop, Outcome, Progress
from innerloop.trees import Tree

_CONVERGED = 1e-4
"""The fall of the gradient norm from which on the solution counts as the minimum."""


class Auto(Adjoint):
    """Measure what one step keeps for the gradient, and choose the adjoint that fits the memory.

    The first of these is taken, and `Solution.adjoint` says which, and why:

    1. `Unroll()`, if the graph of all steps fits.
    2. `Unroll(checkpoint=√steps)`, if that fits.
    3. `Implicit()`, if it applies to the solver and the solve has converged: the gradient norm fell
       to 1e-4 of its first value, or to the tolerance.
    4. `Truncate(k)`, with as many last steps k as fit.

    The first two steps are those of the solve, so the measurement evaluates nothing twice; what the
    second one keeps counts for all. Up to two steps, and under torch.compile and torch.func
    transforms, it is `Unroll()`.

    Args:
        memory: bytes that the graph may take. Default: half of what is free on the device of the
            parameters when the solve begins.
    """

    def __init__(self, memory: float | None = None) -> None:
        if memory is not None:
            check_not_negative(memory=memory)
        self.memory = memory

    def run(self, loop: Loop, init: Tree) -> Outcome:
        if transforming():
            return _told(Unroll().run(loop, init), "Unroll(): nothing is measured in transforms")
        if not torch.is_grad_enabled() or loop.steps <= 2:
            why = "no gradient is wanted" if loop.steps > 2 else "there are at most two steps"
            return _told(Unroll().run(loop, init), f"Unroll(): {why}")
        progress, step = _measured(loop, init)
        left = loop.steps - progress.taken
        if loop.done(progress):
            return _told(loop.outcome(progress), "Unroll(): two steps reached the tolerance")

        limit = self._limit(trees.leaves(init)[0].device)
        chunk = max(1, round(loop.steps**0.5))
        whole = loop.steps * step
        kept = size_of((progress.params, progress.state))
        chunked = (2 + chunk) * step + kept * left / chunk
        sizes = f"{_readable(whole)} for the gradient, of {_readable(limit)}"
        why = f"all {loop.steps} steps keep {sizes}"
        if whole <= limit:
            return _continued(loop, progress, Unroll(), left, f"Unroll(): {why}")
        if chunked <= limit:
            why = f"{why}; in chunks of {chunk} they keep {_readable(chunked)}"
            name = f"Unroll(checkpoint={chunk})"
            return _continued(loop, progress, Unroll(chunk), left, f"{name}: {why}")

        last = min(left, max(1, int(limit // step)))
        with torch.no_grad():
            constant = progress._replace(
                params=trees.detach(progress.params), state=_detached(progress.state)
            )
            progress = loop.advance(constant, left - last)
        implicit, refused = Implicit(), _refusal(loop)
        reached = progress.reports.settled(max(_CONVERGED, loop.tolerance)).all()
        if refused is None and bool(reached):
            why = f"{why}; the solve has converged"
            return _continued(loop, progress, implicit, last, f"Implicit(): {why}")
        why = f"{why}; {refused or 'the solve has not converged'}"
        return _continued(loop, progress, Unroll(), last, f"Truncate({last}): {why}")

    def _limit(self, device: torch.device) -> float:
        if self.memory is not None:
            return self.memory
        free = free_memory(device)
        if free is None:
            raise ValueError(
                f"memory: not given, should be: the free memory of {device} is not known"
            )
        return free / 2


def _measured(loop: Loop, init: Tree) -> tuple[Progress, int]:
    """The first two steps, and the bytes that the second one keeps.

    What the first one keeps may be there anyway, such as the data.
    """
    graph = GraphSize()
    progress = loop.advance(loop.begin(init), 1)
    if loop.done(progress):
        return progress, 0
    graph.grown((progress.params, progress.state))
    progress = loop.advance(progress, 1)
    return progress, graph.grown((progress.params, progress.state))


def _continued(
    loop: Loop, progress: Progress, adjoint: Adjoint, steps: int, sentence: str
) -> Outcome:
    """The outcome of `steps` more steps under an adjoint."""
    rest = replace(
        loop,
        problem=loop.problem.after(progress.taken),
        steps=steps,
        carried=progress.state,
        before=progress.reports,
    )
    outcome = adjoint.run(rest, progress.params)
    reports = outcome.reports.stacked()
    if reports is not None:
        progress.reports.extend(reports, tell=False)  # as `rest` has told
    return _told(outcome._replace(reports=progress.reports), sentence)


def _refusal(loop: Loop) -> str | None:
    """Why the implicit adjoint does not apply."""
    try:
        Implicit().check(loop.problem, loop.solver)
    except ValueError as error:
        return str(error).partition(",")[0]
    return None


def _told(outcome: Outcome, sentence: str) -> Outcome:
    return outcome._replace(adjoint=sentence)


def _detached(state: Any) -> Any:
    return pytree.tree_map_only(Tensor, Tensor.detach, state)


def _readable(size: float) -> str:
    return f"{size / 2**20:.3g} MB" if size < 2**30 else f"{size / 2**30:.3g} GB"
