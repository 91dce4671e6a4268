"""The Nyström approximation of a Hessian: low rank plus damping, inverted in closed form."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.maps.inverse import factorable
from innerloop.problems.base import QuadraticProblem
from innerloop.problems.checks import check_whole
from innerloop.solvers.base import Solver, StepStats, check_not_negative, report
from innerloop.solvers.preconditioners import Preconditioner
from innerloop.solvers.probing import on_vectors, products, random_signs
from innerloop.trees import Tree


class _Sketch(NamedTuple):
    """What is known of the Hessian H of every problem."""

    image: Tensor
    """Y = H Ω, shape (*batch, n, rank)."""
    gram: Tensor
    """Ω'HΩ times the damping, plus Y'Y, shape (*batch, rank, rank)."""
    damping: Tensor
    """Shape (1 or *batch, 1)."""


class Nystrom(Solver, Preconditioner):
    """Steps p − (Ĥ + ρ)⁻¹ g with the Nyström approximation Ĥ = HΩ (Ω'HΩ)⁻¹ Ω'H of the Hessian.

    As the linear solver of `Implicit`, one step is the inverse of Hataya and Yamada; further steps
    correct what rank and damping leave, and converge where ρ is at least half of the largest
    eigenvalue of H − Ĥ. As the preconditioner of `ConjugateGradient` or `MINRES`, it makes the
    largest eigenvalues of a positive semi-definite H alike. It takes `rank` products, once per
    solve. Ω has fixed random signs, made orthonormal; with the rank of the number of parameters Ĥ
    is H, which may be indefinite.

    Args:
        rank: number of columns of Ω, at most the number of parameters, which replaces it. Default
            10.
        damping: ρ, positive: a number, or a tensor of shape () or `batch_shape`. As a
            preconditioner, about the smallest eigenvalues of H. Default 0.01.

    Source:
        Hataya and Yamada, Nyström Method for Accurate and Scalable Implicit Differentiation,
        AISTATS 2023; Frangella, Tropp and Udell, Randomized Nyström Preconditioning, SIAM Journal
        on Matrix Analysis and Applications 2023.
    """

    solves = QuadraticProblem

    def __init__(self, rank: int = 10, damping: float | Tensor = 0.01) -> None:
        check_whole("rank", rank, 1)
        check_not_negative(damping=damping)
        if not isinstance(damping, Tensor) and damping == 0:
            raise ValueError("damping: 0, should be positive")
        self.rank = rank
        self.damping = damping

    def prepare(self, problem: QuadraticProblem, params: Tree) -> _Sketch:
        batch_dims = len(problem.batch_shape)
        point = trees.ravel(params, batch_dims)
        flat = factorable(point)
        count = flat.shape[-1]
        signs = random_signs(count, min(self.rank, count), flat)
        test = torch.linalg.qr(signs)[0]
        product = on_vectors(problem.gauss_newton_operator(params), params, batch_dims)
        image = factorable(products(product, test, point))
        core = test.mT @ image
        damping = torch.as_tensor(self.damping, dtype=flat.dtype, device=flat.device)[..., None]
        gram = 0.5 * damping[..., None] * (core + core.mT) + image.mT @ image
        # Directions without curvature: H is singular there, but H + ρ is not.
        diagonal = gram.detach().diagonal(dim1=-2, dim2=-1)
        shift = torch.finfo(gram.dtype).eps * diagonal.mean(-1, keepdim=True)
        shift = torch.where(shift == 0, 1.0, shift)
        return _Sketch(image, gram + torch.diag_embed(shift.expand_as(diagonal)), damping)

    def apply(self, prepared: _Sketch, vector: Tree) -> Tree:
        image, gram, damping = prepared
        batch_dims = image.ndim - 2
        right = trees.ravel(vector, batch_dims)
        within = torch.linalg.solve_ex(gram, image.mT @ factorable(right).unsqueeze(-1))[0]
        inverse = (right - (image @ within).squeeze(-1)) / damping
        return trees.unravel(inverse.to(right), vector, batch_dims)

    def init(self, problem: QuadraticProblem, params: Tree) -> _Sketch:
        return self.prepare(problem, params)

    def step(
        self, problem: QuadraticProblem, params: Tree, state: _Sketch
    ) -> tuple[Tree, _Sketch, StepStats]:
        loss, gradient = problem.value_and_gradient(params)
        moved = trees.tree_map(torch.sub, params, self.apply(state, gradient))
        return moved, state, report(problem, loss, gradient, torch.ones_like(loss))
