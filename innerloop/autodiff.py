"""Derivatives of functions of trees, in eager code and under torch.compile and torch.func."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from innerloop import trees
from innerloop.trees import Tree

Operator = Callable[[Tree], Tree]
"""A linear map from parameter-like trees to parameter-like trees."""


def transforming() -> bool:
    """Whether torch.compile or a torch.func transform runs this code: no value may steer it."""
    if torch.compiler.is_compiling():
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


_depth: ContextVar[int] = ContextVar("_depth", default=0)


def differentiated_around() -> int:
    """How many of the gradients that this code is called for will be differentiated themselves."""
    return _depth.get()


@contextmanager
def _around(keep_graph: bool) -> Iterator[None]:
    token = _depth.set(_depth.get() + keep_graph)
    try:
        yield
    finally:
        _depth.reset(token)


def value_and_gradient(function: Callable[[Tree], Tensor], params: Tree) -> tuple[Tensor, Tree]:
    """Losses of independent problems and their gradient, differentiable where gradients are on.

    Args:
        function: maps parameters to a loss per problem; problems do not depend on each other.
        params: where to evaluate.

    Returns:
        The losses, and the gradient, structured like `params`; zero where a loss does not depend on
        a parameter.
    """
    if transforming():

        def total(params: Tree) -> tuple[Tensor, Tensor]:
            losses = function(params)
            return losses.sum(), losses

        gradient, (_, losses) = torch.func.grad_and_value(total, has_aux=True)(params)
        return losses, gradient

    # torch.autograd.grad asks less of `function` than torch.func does (autograd Functions of any
    # age, hooks, checkpoints), and without an outer gradient it keeps no graph.
    keep_graph = torch.is_grad_enabled()
    leaves, spec = trees.flatten(params)
    with torch.enable_grad():
        # Views: `function` may close over the very tensor it is given, as a proximal term does.
        fresh = [
            leaf.view_as(leaf) if keep_graph and leaf.requires_grad else _new_leaf(leaf)
            for leaf in leaves
        ]
        with _around(keep_graph):
            losses = function(trees.unflatten(fresh, spec))
        if losses.requires_grad:
            gradient = torch.autograd.grad(
                losses.sum(), fresh, create_graph=keep_graph, allow_unused=True
            )
        else:
            gradient = (None,) * len(fresh)
    filled = [
        torch.zeros_like(leaf) if part is None else part
        for leaf, part in zip(leaves, gradient, strict=True)
    ]
    return losses if keep_graph else losses.detach(), trees.unflatten(filled, spec)


def hessian_operator(function: Callable[[Tree], Tensor], params: Tree) -> Operator:
    """The map from a direction to the Hessian times it, at `params`.

    It is differentiable by what `function` closes over, by `params` and by the direction where
    gradients are on.
    """
    if transforming():
        pullback = torch.func.vjp(lambda at: value_and_gradient(function, at)[1], params)[1]
        return lambda direction: pullback(direction)[0]

    # As `value_and_gradient`, for the same reasons.
    keep_graph = torch.is_grad_enabled()
    leaves, spec = trees.flatten(params)
    with torch.enable_grad():
        at = [
            leaf.view_as(leaf) if keep_graph and leaf.requires_grad else _new_leaf(leaf)
            for leaf in leaves
        ]
        gradient = trees.leaves(value_and_gradient(function, trees.unflatten(at, spec))[1])
    curved = [index for index, part in enumerate(gradient) if part.requires_grad]

    def operator(direction: Tree) -> Tree:
        directions = trees.leaves(direction)
        if not curved:
            return trees.zeros_like(direction)
        product = torch.autograd.grad(
            [gradient[index] for index in curved],
            at,
            [directions[index] for index in curved],
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
            materialize_grads=True,
        )
        return trees.unflatten(list(product), spec)

    return operator


def _new_leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()
