"""The derivative of the solution of a linear system, whatever steps have found it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator, transforming
from innerloop._primitive import Primitive
from innerloop.trees import Tree

Inverse = Callable[[Tree, bool], Tree]
"""Maps b, and whether H is transposed, to H⁻¹ b, differentiable like `solved`."""


class _Passes:
    """What is known of the backward passes through the corrections of one solution."""

    twice = False
    """Whether a gradient was taken that may be differentiated itself."""


class _Correction(Primitive):
    """Zero, whose derivative by the residual of a linear system is the inverse of its matrix."""

    @staticmethod
    def forward(
        inverse: Inverse, passes: _Passes, last: bool, spec: Any, *residual: Tensor
    ) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(leaf) for leaf in residual)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.inverse, ctx.passes, ctx.last, ctx.spec = inputs[:4]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        ctx.passes.twice = ctx.passes.twice or torch.is_grad_enabled()
        if not (ctx.last or ctx.passes.twice):
            # What the last correction leaves of a first derivative is next to zero.
            return None, None, None, None, *(None,) * len(outer)
        inverse = ctx.inverse(trees.unflatten(list(outer), ctx.spec), True)
        return None, None, None, None, *trees.leaves(inverse)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        inverse = ctx.inverse(trees.unflatten(list(tangents[4:]), ctx.spec), False)
        return tuple(trees.leaves(inverse))


def solved(found: Tree, operator: Operator, right: Tree, which: Tensor, inverse: Inverse) -> Tree:
    """The solution u of H u = b with the derivatives of H⁻¹ b, where it is solved.

    The steps that found it may have other ones: those of conjugate gradients know only the
    directions that they took, and took none where b is zero. Two derivatives are exact, and further
    ones too but for such cases. Under torch.compile, they are those of the steps.

    Args:
        found: u, with the derivatives of the steps.
        operator: H, differentiable.
        right: b.
        which: problems that are solved, shape (*batch); the others keep the derivatives of the
            steps, which are exact for what these computed.
        inverse: solves further systems in H.
    """
    if constant((found, right)) or not (transforming() or bool(which.any())):
        return found
    exact, passes = found, _Passes()
    # Each Newton step from the solution makes one more derivative exact, whatever the derivatives
    # of its starting point.
    for last in (False, True):
        leaves, spec = trees.flatten(trees.tree_map(torch.sub, right, operator(exact)))
        step = _Correction.apply(inverse, passes, last, spec, *leaves)
        exact = trees.add(exact, trees.unflatten(list(step), spec))
    return trees.tree_map(
        lambda exact, found: torch.where(trees.per_problem(which, found).bool(), exact, found),
        exact,
        found,
    )


def constant(tree: Tree) -> bool:
    """Whether the derivatives of the steps are to be left as they are, such as none."""
    # Dynamo takes no Function that has a `jvp`, nor one whose backward uses a pullback from
    # outside.
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return True
    return not transforming() and not any(leaf.requires_grad for leaf in trees.leaves(tree))
