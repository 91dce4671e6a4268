"""Ways to a hypergradient: with this library, with others, and in plain torch.

Source:
    Choe et al., Betty: An Automatic Differentiation Library for Multilevel Optimization, ICLR 2023
    (its two implicit gradients); Lorraine, Vicol and Duvenaud, Optimizing Millions of
    Hyperparameters by Implicit Differentiation, AISTATS 2020, algorithm 3 (Neumann).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

import innerloop as il
from benchmarks.core.parts.hypergradient_tasks import Task, Tuned, flat, mixed


def _conjugate(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Tensor:
    """Conjugate gradients from zero, in plain torch."""
    found, residual = torch.zeros_like(right), right
    direction, square = residual, residual.square().sum()
    least = 1e-24 * square
    for _ in range(steps):
        if square <= least:  # to the last digits
            break
        image = product(direction)
        size = square / (direction * image).sum()
        found, residual = found + size * direction, residual - size * image
        square, before = residual.square().sum(), square
        direction = residual + square / before * direction
    return found


Run = Callable[[int, int], Tensor]
"""The hypergradient for a number of inner steps and of linear steps."""


class Way(NamedTuple):
    """A way to the hypergradient; those without linear steps ignore the second number."""

    library: str
    run: Run
    linear: bool


def innerloop_way(
    task: Task, solver: il.Solver, adjoint: il.Adjoint | None, structured: bool = True
) -> Run:
    """With this library; `adjoint` None is `Implicit`."""

    def run(steps: int, linear: int) -> Tensor:
        hyper = [h.clone().requires_grad_() for h in task.hyper]
        problem = (
            task.problem(*hyper) if structured else il.Objective(lambda w: task.loss(w, *hyper))
        )
        rule = adjoint or il.Implicit(steps=linear, tolerance=1e-12, accept=math.inf)
        value = il.solve(problem, task.init, solver, steps=steps, adjoint=rule).value
        return flat(torch.autograd.grad(task.outer(value), hyper))

    return run


def torchopt_way(task: Task, given: Tuned, implicit: bool) -> Run:
    """With TorchOpt: `sgd`, and the gradient through its steps, or `custom_root`."""
    import torchopt

    optimizer = torchopt.sgd(given.rate, given.momentum, moment_requires_grad=not implicit)

    def descend(w: Tensor, log_weights: Tensor, log_decay: Tensor, steps: int) -> Tensor:
        state = optimizer.init((w,))
        for _ in range(steps):
            loss = task.loss(w, log_weights, log_decay)
            gradient = torch.autograd.grad(loss, w, create_graph=not implicit)
            updates, state = optimizer.update(gradient, state, inplace=False)
            (w,) = torchopt.apply_updates((w,), updates, inplace=False)
            if implicit:
                w = w.detach().requires_grad_()
        return w

    def run(steps: int, linear: int) -> Tensor:
        hyper = [h.clone().requires_grad_() for h in task.hyper]
        start = task.init.clone().requires_grad_()
        if not implicit:
            value = descend(start, *hyper, steps)
        else:
            cg = torchopt.linear_solve.solve_cg(maxiter=linear, rtol=1e-12, atol=0.0)
            condition = torch.func.grad(task.loss)

            @torchopt.diff.implicit.custom_root(condition, argnums=(1, 2), solve=cg)
            def solve(w: Tensor, log_weights: Tensor, log_decay: Tensor) -> Tensor:
                with torch.enable_grad():
                    w = w.detach().requires_grad_()
                    return descend(w, log_weights.detach(), log_decay.detach(), steps).detach()

            value = solve(start, *hyper)
        return flat(torch.autograd.grad(task.outer(value), hyper))

    return run


def betty_way(task: Task, given: Tuned, neumann: bool) -> Run:
    """As with Betty: steps of an optimizer, then products with the Hessian by autograd."""

    def run(steps: int, linear: int) -> Tensor:
        w = task.init.clone().requires_grad_()
        optimizer = torch.optim.SGD([w], given.rate, given.momentum)
        for _ in range(steps):
            optimizer.zero_grad()
            task.loss(w, *task.hyper).backward()
            optimizer.step()
        hyper = [h.clone().requires_grad_() for h in task.hyper]
        (right,) = torch.autograd.grad(task.outer(w), w)
        (gradient,) = torch.autograd.grad(task.loss(w, *hyper), w, create_graph=True)

        def product(direction: Tensor) -> Tensor:
            return torch.autograd.grad(gradient, w, direction, retain_graph=True)[0]

        if neumann:
            term = found = right
            for _ in range(linear):
                term = term - given.neumann * product(term)
                found = found + term
            found = given.neumann * found
        else:
            found = _conjugate(product, right, linear)
        return -flat(torch.autograd.grad(gradient, hyper, found))

    return run


def _descended(task: Task, given: Tuned, steps: int, *hyper: Tensor) -> Tensor:
    """Gradient descent with momentum by torch.func."""
    slope = torch.func.grad(task.loss)
    w, velocity = task.init, torch.zeros_like(task.init)
    for _ in range(steps):
        velocity = given.momentum * velocity + slope(w, *hyper)
        w = w - given.rate * velocity
    return w


def functional_unrolled(task: Task, given: Tuned) -> Run:
    """By torch.func, through the steps."""

    def run(steps: int, linear: int) -> Tensor:
        def outer(log_weights: Tensor, log_decay: Tensor) -> Tensor:
            return task.outer(_descended(task, given, steps, log_weights, log_decay))

        return flat(torch.func.grad(outer, argnums=(0, 1))(*task.hyper))

    return run


def functional_implicit(task: Task, given: Tuned) -> Run:
    """By torch.func, with conjugate gradients on forward-over-reverse products."""

    def run(steps: int, linear: int) -> Tensor:
        w = _descended(task, given, steps, *task.hyper)

        def slope(w: Tensor) -> Tensor:
            found: Tensor = torch.func.grad(task.loss)(w, *task.hyper)
            return found

        def product(direction: Tensor) -> Tensor:
            found: Tensor = torch.func.jvp(slope, (w,), (direction,))[1]
            return found

        return mixed(task, w, _conjugate(product, torch.func.grad(task.outer)(w), linear))

    return run


def functional_dense(task: Task) -> Run:
    """By torch.func, Newton steps and the linear system with dense Hessians."""
    slope, curvature = torch.func.grad(task.loss), torch.func.hessian(task.loss)

    def solved(w: Tensor, right: Tensor) -> Tensor:
        hessian = curvature(w, *task.hyper).reshape(w.numel(), w.numel())
        return torch.linalg.solve(hessian, right.flatten()).reshape(w.shape)

    def run(steps: int, linear: int) -> Tensor:
        w = task.init
        for _ in range(steps):
            w = w - solved(w, slope(w, *task.hyper))
        return mixed(task, w, solved(w, torch.func.grad(task.outer)(w)))

    return run


def ways(task: Task, given: Tuned) -> dict[str, Way]:
    """All ways to the hypergradient, by the names that the table has."""
    descent = il.GradientDescent(given.rate, momentum=given.momentum)
    found = {
        f"innerloop {name}": Way("innerloop", innerloop_way(task, solver, adjoint), adjoint is None)
        for name, (solver, adjoint) in task.solvers.items()
    }
    generic = partial(innerloop_way, task, structured=False)
    return {
        **found,
        "innerloop GradientDescent()": Way("innerloop", generic(descent, None), True),
        "innerloop GradientDescent(), Unroll()": Way(
            "innerloop", generic(descent, il.Unroll()), False
        ),
        "TorchOpt sgd, unrolled": Way("TorchOpt", torchopt_way(task, given, False), False),
        "TorchOpt custom_root, CG": Way("TorchOpt", torchopt_way(task, given, True), True),
        "as with Betty, Neumann": Way("Betty", betty_way(task, given, True), True),
        "as with Betty, CG": Way("Betty", betty_way(task, given, False), True),
        "torch.func, unrolled": Way("torch.func", functional_unrolled(task, given), False),
        "torch.func, CG": Way("torch.func", functional_implicit(task, given), True),
        "torch.func, dense Newton": Way("torch.func", functional_dense(task), False),
    }
