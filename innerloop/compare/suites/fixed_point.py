"""A fixed point of a layer, as in deep-equilibrium models."""

from functools import partial

import torch
from torch import Tensor

from innerloop.compare.bilevel import Bilevel, bilevel_suite
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal
from innerloop.problems import FixedPoint
from innerloop.solvers import Anderson, Broyden, FixedPointIteration, NewtonRaphson

Hyper = dict[str, Tensor]

ITERATIONS = 500
"""More than enough for the last digit in double precision."""


def suite(quick: bool) -> Suite:
    """z = tanh(W z + b); W and b are meta-parameters, the outer loss is a distance."""
    size, steps = (20, 10) if quick else (200, 15)
    return bilevel_suite(
        f"fixed point of a layer of {size} units",
        partial(make, size),
        steps=steps,
        solvers={
            "iteration": FixedPointIteration(),
            "iteration (damped)": FixedPointIteration(0.7),
            "Anderson": Anderson(),
            "Broyden": Broyden(),
            "Newton-Raphson": NewtonRaphson(linear_steps=10),
        },
        adjoint_solver="Anderson",
    )


def make(size: int, dtype: torch.dtype) -> Bilevel:
    """The layer in a dtype, a contraction."""
    weight = normal(size, size, seed=0)
    weight = 0.9 * weight / torch.linalg.matrix_norm(weight, 2)
    center = normal(size, seed=1).to(dtype)

    def layer(hyper: Hyper, hidden: Tensor) -> Tensor:
        return torch.tanh(hyper["weight"] @ hidden + hyper["bias"])

    def solution(hyper: Hyper) -> Tensor:
        """The iteration until it stands still, and a Newton step, whose derivative is exact."""
        with torch.no_grad():
            hidden = torch.zeros_like(center)
            for _ in range(ITERATIONS):
                hidden = layer(hyper, hidden)
            slope = torch.func.jacfwd(partial(layer, hyper))(hidden)
        residual = hidden - layer(hyper, hidden)
        change: Tensor = torch.linalg.solve(torch.eye(size).to(slope) - slope, residual)
        return hidden - change

    return Bilevel(
        hyper={"weight": weight.to(dtype), "bias": normal(size, seed=2).to(dtype)},
        problem=lambda hyper: FixedPoint(partial(layer, hyper)),
        init=torch.zeros(size, dtype=dtype),
        outer=lambda hidden, hyper: 0.5 * (hidden - center).square().mean(),
        solution=solution,
    )
