"""Logistic regression by iteratively reweighted least squares."""

from typing import Literal

import torch
from torch import Tensor

from innerloop.problems.logistic import LogisticRegression
from innerloop.solvers.base import Solver, StepStats, report
from innerloop.solvers.ridge import Ridge


class IRLS(Solver):
    """Newton's method on logistic regression: a ridge regression in closed form every step.

    Args:
        form: the linear system to factorise, see `Ridge`. Default "auto".

    Source:
        Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019,
        section 3.3 (LR-D2).
    """

    solves = LogisticRegression

    def __init__(self, form: Literal["auto", "primal", "dual"] = "auto") -> None:
        self.ridge = Ridge(form)

    def init(self, problem: LogisticRegression, params: Tensor) -> None:
        return None

    def step(
        self, problem: LogisticRegression, params: Tensor, state: None
    ) -> tuple[Tensor, None, StepStats]:
        loss, gradient = problem.value_and_gradient(params)
        moved = self.ridge.solution(problem.reweighted(params), params)
        return moved, None, report(problem, loss, gradient, torch.ones_like(loss))
