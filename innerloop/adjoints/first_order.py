"""First-order adjoints: the gradients of the inner steps count as constants."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop._primitive import Primitive
from innerloop.adjoints.base import Adjoint, constant
from innerloop.problems.base import Solvable
from innerloop.solvers.base import Solver, StepStats
from innerloop.solvers.direction import GradientMethod, take
from innerloop.solvers.gradient import LearnedUpdate
from innerloop.solvers.loop import Loop, Outcome
from innerloop.solvers.step_sizes import StepSize, apply_rate, checked_rate
from innerloop.trees import Tree


class _Travel(NamedTuple):
    """The sum of the directions of consecutive steps that share their rate."""

    rate: Tree
    distance: Tree


class _State(NamedTuple):
    inner: Any
    travels: tuple[_Travel, ...]


class FirstOrder(Adjoint):
    """Take the direction of every step as a constant: memory does not grow with the steps.

    With steps p ← p + rate · d and every direction d (momentum, averages and weight decay included)
    constant, the gradient of the solution reaches `init` unchanged, and the rate multiplied by the
    sum of the directions, which is all that is kept. Rates that change from step to step, as in
    `LearningRates(per_step=...)`, need one direction per step. A line search is a constant.

    Source:
        Finn et al., Model-Agnostic Meta-Learning, ICML 2017, section 5.2 (first-order MAML).
    """

    def check(self, problem: Solvable, solver: Solver) -> None:
        if not isinstance(solver, GradientMethod) or isinstance(solver, LearnedUpdate):
            raise TypeError(
                f"adjoint: FirstOrder() takes the directions of GradientDescent, Adam, AdamW, "
                f"RMSprop and Adagrad as constants, not those of {type(solver).__name__}; "
                "Unroll() and Truncate(steps) work"
            )
        for name, value in vars(solver).items():
            leaves = trees.leaves(value) if name != "rate" else []
            if any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves):
                raise ValueError(
                    f"{name}: receives no gradient under FirstOrder(), which takes directions as "
                    "constants; Unroll() and Truncate(steps) work"
                )

    def run(self, loop: Loop, init: Tree) -> Outcome:
        solver = loop.solver
        assert isinstance(solver, GradientMethod)

        def step(problem: Any, params: Tree, state: _State) -> tuple[Tree, _State, StepStats]:
            number = state.inner.step
            with torch.no_grad():
                proposal = solver.propose(problem, params, state.inner)
                moved, inner, stats = take(problem, params, proposal)
            rate = solver.rate
            if callable(rate) and not isinstance(rate, StepSize):
                rate = checked_rate(rate(number))
            return moved, _State(inner, _travel(state.travels, rate, proposal.direction)), stats

        with torch.no_grad():
            start = loop.begin(trees.detach(init))
            start = start._replace(state=_State(start.state, ()))
        progress = loop.advance(start, loop.steps, step)
        value = trees.tree_map(_attach, progress.params, init)
        for rate, distance in progress.state.travels:
            change = trees.tree_map(lambda r: r - r.detach(), rate)
            value = apply_rate(change, loop.problem, value, distance)
        carried = constant(loop, solver.carried(progress.state.inner))
        return Outcome(value, progress.reports, carried)


def _attach(value: Tensor, source: Tensor) -> Tensor:
    """`value`, with the gradient of `source`."""
    return value.detach() + (source - source.detach())


def _travel(travels: tuple[_Travel, ...], rate: Any, direction: Tree) -> tuple[_Travel, ...]:
    if isinstance(rate, int | float | StepSize):
        return travels
    if travels and _same_tensors(travels[-1].rate, rate):
        distance = trees.tree_map(torch.add, travels[-1].distance, direction)
        return (*travels[:-1], _Travel(rate, trees.detach(distance)))
    return (*travels, _Travel(rate, direction))


def _same_tensors(tree: Tree, other: Tree) -> bool:
    pairs = zip(trees.leaves(tree), trees.leaves(other), strict=True)
    return all(a is b for a, b in pairs)


class _PseudoGradient(Primitive):
    """The identity, whose gradient is another tensor."""

    @staticmethod
    def forward(value: Tensor, gradient: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        return ctx.saved_tensors[0].clone(), None


class Reptile(Adjoint):
    """A pseudo-gradient: for any outer loss, `init` receives `init - solution`.

    An outer step of plain gradient descent then moves `init` toward the solution. Since the outer
    loss only has to depend on the solution, its scale does not matter: average over tasks by
    averaging gradients, as `task_gradients` does.

    Source:
        Nichol et al., On First-Order Meta-Learning Algorithms, 2018, algorithm 2.
    """

    def run(self, loop: Loop, init: Tree) -> Outcome:
        with torch.no_grad():
            reached = loop.run(trees.detach(init))

        def attach(start: Tensor, reached: Tensor) -> Any:
            change = (start - reached).detach()
            return _PseudoGradient.apply(_attach(reached, start), change)

        value = trees.tree_map(attach, init, reached.params)
        return Outcome(value, reached.reports, constant(loop, reached.carried))
