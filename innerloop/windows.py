"""Truncated backpropagation through time: one solve in windows, a gradient for each."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from torch import Tensor

from innerloop import trees
from innerloop.adjoints import Adjoint
from innerloop.problems import Solvable, as_problem
from innerloop.problems.checks import check_whole
from innerloop.solvers.base import Solver, check_instance
from innerloop.solvers.state import SolverState
from innerloop.solving import Solution, solve
from innerloop.trees import Tree

Minimised = Solvable | Callable[[Tree], Tensor]
"""A problem, or a function from parameters to a scalar loss."""


def solve_in_windows(
    problem: Minimised | Iterable[Minimised],
    init: Tree,
    solver: Solver,
    *,
    steps: int,
    window: int,
    adjoint: Adjoint | Literal["auto"] | None = None,
    throw: bool = True,
    state: SolverState | None = None,
) -> Iterator[Solution]:
    """Take the steps of one solve in windows, each a solution with a gradient of its own.

    The parameters are those of `solve` with all steps, if the solver hands on its state. The
    gradient is truncated: an outer loss of a window's solution reaches what the steps of that
    window use, through the steps that `adjoint` differentiates; the parameters and the state that
    the window starts from are constants. So the sum over all windows of the gradients of their
    outer losses lacks what a step does to the losses of later windows; it is that of truncated
    backpropagation through time.

    Between windows, an outer step may change tensors that the problem uses:

        for solution in il.solve_in_windows(loss, init, il.Adam(0.01), steps=1000, window=20):
            outer_optimizer.zero_grad()
            outer_loss(solution.value).backward()
            outer_optimizer.step()

    Args:
        problem: what is minimised, or an iterable with the problem of each window, read when the
            window begins: a generator can make them from hyperparameters as they are by then. The
            windows end when it does.
        init: parameters to start from, which receive the gradient of the first window alone.
        solver: how it is minimised. One that hands on no state, such as `ConjugateGradient`, starts
            afresh in every window; a direct one takes a single step.
        steps: number of steps in all windows together, at least 0.
        window: number of steps of a window, at least 1; the last one may have fewer.
        adjoint: how the gradient comes back through a window. Default `Unroll()`; `Truncate(k)` for
            its last k steps.
        throw: raise on numerical failure, as of `solve`. Default True.
        state: state of an earlier solve to continue from. Default: the solver starts fresh.

    Yields:
        The solution at the end of each window, with the statistics of its steps.

    Raises:
        TypeError, ValueError, SolveError: as of `solve`.

    Source:
        Williams and Peng, An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent
        Network Trajectories, Neural Computation 1990 (BPTT(h; h'), here with h' = `window` and
        h ≤ h'); Metz et al., Understanding and Correcting Pathologies in the Training of Learned
        Optimizers, ICML 2019.
    """
    check_instance("solver", solver, Solver, "GradientDescent(0.1)")
    check_whole("steps", steps, 0)
    check_whole("window", window, 1)
    total = min(steps, 1) if solver.direct else steps
    begins = range(0, total, window)
    if isinstance(problem, Solvable) or callable(problem):
        whole = as_problem(problem)
        problems: Iterator[Minimised] = (whole.after(begin) for begin in begins)
    elif isinstance(problem, Iterable):
        problems = iter(problem)
    else:
        raise TypeError(
            f"problem: {type(problem).__name__}, should be a Problem, a function of the parameters "
            "or an iterable of these"
        )
    counts = (min(window, total - begin) for begin in begins)

    def windows(params: Tree, state: SolverState | None) -> Iterator[Solution]:
        # The counts first: no problem is read that has no window.
        for count, each in zip(counts, problems, strict=False):
            solution = solve(
                each, params, solver, steps=count, adjoint=adjoint, throw=throw, state=state
            )
            params = trees.detach(solution.value)
            state = None if solution.state is None else solution.state.detach()
            yield solution
            del solution  # so that its graph is not kept while the next window's grows

    return windows(init, state)
