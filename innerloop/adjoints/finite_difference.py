"""A one-step adjoint without second derivatives: gradients of the loss at two points."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import filled, transforming
from innerloop._primitive import Primitive
from innerloop.adjoints.base import Adjoint
from innerloop.adjoints.checkpoint import Replay, fresh_tensors
from innerloop.problems.base import Problem, Solvable
from innerloop.solvers.base import Solver, check_not_negative, quotient
from innerloop.solvers.direction import GradientMethod
from innerloop.solvers.gradient import LearnedUpdate
from innerloop.solvers.loop import Loop, Outcome
from innerloop.solvers.searching import SearchingSolver
from innerloop.trees import Tree


class _Differenced(Problem):
    """A problem whose gradient is differentiated by central differences.

    The derivative of the gradient along a vector a, by whatever the loss depends on, is the
    difference of that dependency's gradients at two points, which lie `size` to both sides of the
    parameters in the direction of a, times |a| / (2 size).
    """

    def __init__(self, problem: Problem, size: float) -> None:
        self.problem = problem
        self.size = size
        self.batch_shape, self.changing = problem.batch_shape, problem.changing

    def at(self, step: int) -> Problem:
        seen = self.problem.at(step)
        assert isinstance(seen, Problem)
        return _Differenced(seen, self.size)

    def loss(self, params: Tree) -> Tensor:
        return self.problem.loss(params)

    def value_and_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        loss, gradient = self.value_and_partial_gradient(params)
        return loss, filled(gradient, params)

    def value_and_partial_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        if not torch.is_grad_enabled():
            return self.problem.value_and_partial_gradient(params)
        evaluate = self.problem.value_and_partial_gradient
        replay = Replay("FiniteDifference()", evaluate, params)
        loss, partial = replay.result
        leaves, spec = trees.flatten(partial)
        known = [leaf for leaf in leaves if leaf is not None]
        inputs = (*trees.leaves(params), *replay.closure)
        derivative = _Derivative(self, replay, params, partial)
        attached = iter(_Attach.apply(derivative, known, *inputs))
        gradient = [None if leaf is None else next(attached) for leaf in leaves]
        return loss, trees.unflatten(gradient, spec)


class _Derivative:
    """The derivative of a gradient, as the map from a vector to a gradient of the inputs."""

    def __init__(
        self, differenced: _Differenced, replay: Replay, params: Tree, partial: Tree
    ) -> None:
        self.problem, self.size = differenced.problem, differenced.size
        self.replay = replay
        self.spec = trees.flatten(params)[1]
        self.count = len(trees.leaves(params))
        self.known = [leaf is not None for leaf in trees.leaves(partial)]

    def along(
        self, outer: tuple[Tensor, ...], inputs: list[Tensor], wanted: list[bool], again: bool
    ) -> list[Tensor | None]:
        """The gradient of the inputs (parameters, and what the loss closes over)."""
        found: list[Tensor | None] = [None] * len(inputs)
        params = trees.unflatten(inputs[: self.count], self.spec)
        given = iter(outer)
        parts = [
            next(given) if known else torch.zeros_like(leaf)
            for known, leaf in zip(self.known, inputs, strict=False)
        ]
        vector = trees.unflatten(parts, self.spec)
        square = self.problem.dot(vector, vector)
        empty = square == 0
        length = torch.where(empty, 0.0, torch.where(empty, 1.0, square).sqrt())
        move = quotient(torch.full_like(length, self.size), length, empty)
        places = [place for place, want in enumerate(wanted) if want]
        for side in (1, -1):
            at = trees.add_scaled(params, side * move, vector)
            losses = self.replay.again(self.problem.loss, at, inputs[self.count :])
            total = (side / (2 * self.size) * length * losses).sum()
            if not total.requires_grad:
                continue
            gradients = torch.autograd.grad(
                total,
                [inputs[place] for place in places],
                create_graph=again,
                allow_unused=True,
            )
            for place, gradient in zip(places, gradients, strict=True):
                before = found[place]
                found[place] = gradient if before is None else before + gradient
        return found


class _Attach(Primitive):
    """Known values of a gradient, with the derivatives that differences give."""

    @staticmethod
    def forward(ctx: Any, derivative: _Derivative, known: list[Tensor], *inputs: Tensor) -> Any:
        ctx.derivative = derivative
        ctx.save_for_backward(*inputs)
        return tuple(leaf.detach() for leaf in known)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        again, wanted = torch.is_grad_enabled(), list(ctx.needs_input_grad[2:])
        with torch.enable_grad():
            inputs = fresh_tensors(ctx.saved_tensors, again)
            return None, None, *ctx.derivative.along(outer, inputs, wanted, again)


class FiniteDifference(Adjoint):
    """Differentiate the last step, with a central difference in place of second derivatives.

    It gives what `OneStep()` gives up to O(size²): the step's derivative by the gradient g of the
    loss is exact (the rate of gradient descent, the scaling of Adam), and so are those by rates,
    weight decay and so on; that of g along a vector a, by whatever the loss depends on, is

        (∇ℓ(p + size · a/|a|) − ∇ℓ(p − size · a/|a|)) · |a| / (2 size).

    So the outer gradient takes two more first-order gradients of the inner loss, and the memory of
    one. Where the steps before have converged, it is the implicit gradient with a multiple of the
    identity for the inverse Hessian, adapted to the solver's own scaling: a pseudo-gradient that
    points in a useful direction, whose size follows the rate.

    Args:
        size: distance of the two points from the parameters, of each problem. Default 0.01.

    Source:
        Liu et al., DARTS: Differentiable Architecture Search, ICLR 2019, eqs. 7 and 8 (one step of
        gradient descent); Luketina et al., Scalable Gradient-Based Tuning of Continuous
        Regularization Hyperparameters, ICML 2016 (T1 − T2: after every step); Choe et al., Making
        Scalable Meta Learning Practical, NeurIPS 2023 (SAMA: at convergence, adapted to Adam).
    """

    def __init__(self, size: float = 0.01) -> None:
        check_not_negative(size=size)
        if size == 0:
            raise ValueError("size: 0, should be positive")
        self.size = size

    def check(self, problem: Solvable, solver: Solver) -> None:
        kinds = GradientMethod | LearnedUpdate | SearchingSolver
        # A rate that measures more than the loss needs more than the gradient.
        measured = getattr(getattr(solver, "rate", None), "solves", Problem)
        if not isinstance(solver, kinds) or measured is not Problem:
            raise TypeError(
                "adjoint: FiniteDifference() needs a solver that uses only the gradient, such as "
                f"GradientDescent, Adam or LBFGS, not {type(solver).__name__} with its settings; "
                "OneStep() works"
            )

    def run(self, loop: Loop, init: Tree) -> Outcome:
        if not torch.is_grad_enabled() or loop.steps == 0:
            return loop.run(init)
        if transforming():
            raise ValueError(
                "adjoint: FiniteDifference() does not work under torch.compile and torch.func "
                "transforms; OneStep() does"
            )
        progress = loop.begin(init)
        if loop.steps > 1:
            with torch.no_grad():
                progress = loop.advance(loop.begin(trees.detach(init)), loop.steps - 1)
        assert isinstance(loop.problem, Problem)
        last = replace(loop, problem=_Differenced(loop.problem, self.size))
        return last.outcome(last.advance(progress, 1))
