"""Derivatives of functions of trees, in eager code and under torch.compile and torch.func."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from innerloop import trees
from innerloop._attention import attention_with_second_derivatives
from innerloop._torch import inside_transform, pytree, without_torch_function
from innerloop.trees import Tree

Operator = Callable[[Tree], Tree]
"""A linear map from parameter-like trees to parameter-like trees."""


def transforming() -> bool:
    """Whether torch.compile or a torch.func transform runs this code, so no value is known."""
    if torch.compiler.is_compiling():
        return True
    return inside_transform()


_depth: ContextVar[int] = ContextVar("_depth", default=0)


def differentiated_around() -> int:
    """How many of the enclosing gradients will themselves be differentiated."""
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
        params: parameters to evaluate at.

    Returns:
        The losses, and the gradient, structured like `params`; zero where a loss does not depend on
        a parameter.

    Raises:
        ValueError: the losses depend on no parameter at all.
    """
    losses, gradient = value_and_partial_gradient(function, params)
    return losses, filled(gradient, params)


def value_and_partial_gradient(
    function: Callable[[Tree], Tensor], params: Tree
) -> tuple[Tensor, Tree]:
    """`value_and_gradient`, but with None in place of a tensor that the losses do not depend on.

    Under torch.compile, where that is unknown, it is zero.
    """
    leaves, spec = trees.flatten(params)
    if transforming():
        reached: set[int] = set()

        def total(params: Tree) -> tuple[Tensor, Tensor]:
            losses = function(_watched(params, reached))
            return losses.sum(), losses

        compiling = torch.compiler.is_compiling()
        with nullcontext() if compiling else attention_with_second_derivatives():
            gradient, (_, losses) = torch.func.grad_and_value(total, has_aux=True)(params)
        parts = trees.leaves(gradient)
        if not compiling:
            _check_reached(bool(reached))
            parts = [part if i in reached else None for i, part in enumerate(parts)]
        return losses, trees.unflatten([check_dense(part) for part in parts], spec)

    # torch.autograd.grad accepts more functions than torch.func does (old-style autograd Functions,
    # hooks, checkpoints), and keeps no graph without an outer gradient.
    keep_graph = torch.is_grad_enabled()
    attention = attention_with_second_derivatives() if keep_graph else nullcontext()
    with torch.enable_grad(), attention:
        # Views: `function` may close over the same tensor that it is given, as a proximal term
        # does.
        fresh = [
            leaf.view_as(leaf) if keep_graph and leaf.requires_grad else _new_leaf(leaf)
            for leaf in leaves
        ]
        with _around(keep_graph):
            losses = function(trees.unflatten(fresh, spec))
        _check_reached(losses.requires_grad)
        gradient = torch.autograd.grad(
            losses.sum(), fresh, create_graph=keep_graph, allow_unused=True
        )
    _check_reached(any(part is not None for part in gradient))
    gradient = [check_dense(part) for part in gradient]
    return losses if keep_graph else losses.detach(), trees.unflatten(gradient, spec)


def filled(gradient: Tree, params: Tree) -> Tree:
    """A partial gradient with zeros in place of None."""
    parts, spec = trees.flatten(gradient)
    if all(part is not None for part in parts):
        return gradient
    pairs = zip(parts, trees.leaves(params), strict=True)
    return trees.unflatten([torch.zeros_like(p) if g is None else g for g, p in pairs], spec)


def value_and_pullback(function: Callable[[Tree], Tree], params: Tree) -> tuple[Tree, Operator]:
    """The value of a function of trees, and the map from outer gradients to its own gradient.

    Raises:
        ValueError: raised by the map, if the value depends on no parameter.
    """
    reached: set[int] = set()
    value, pullback = torch.func.vjp(lambda at: function(_watched(at, reached)), params)[:2]

    def checked(outer: Tree) -> Tree:
        gradient = pullback(outer)[0]
        _check_reached(bool(reached) or torch.compiler.is_compiling())
        return gradient

    return value, checked


@contextmanager
def outside_inference_mode() -> Iterator[bool]:
    """Allow inner gradients under `torch.inference_mode()`, as under `no_grad`.

    Yields whether that mode was in force.
    """
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        yield False
        return
    with torch.inference_mode(False), torch.no_grad(), _Clones():
        yield True


class _Clones(TorchFunctionMode):
    """Replace every tensor that autograd cannot save by a clone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = pytree.tree_map_only(Tensor, ordinary, (args, kwargs or {}))
        return func(*args, **kwargs)


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a clone of one that was made under `torch.inference_mode()`."""
    with without_torch_function():
        return tensor.clone() if tensor.is_inference() else tensor


def _watched(params: Tree, reached: set[int]) -> Tree:
    """The parameters; a gradient that arrives at one of them adds its number to `reached`."""
    if torch.compiler.is_compiling():
        return params
    leaves, spec = trees.flatten(params)
    views = [leaf.view_as(leaf) for leaf in leaves]
    for number, view in enumerate(views):
        if view.requires_grad:
            view.register_hook(lambda gradient, number=number: reached.add(number))
    return trees.unflatten(views, spec)


def _check_reached(reached: bool) -> None:
    if not reached:
        raise ValueError(
            "loss: does not depend on the adapting parameters, should be computed from the model "
            "or the parameters that it is given; it depends on none of them if it uses another "
            "model, or if detach(), item(), no_grad, inference_mode or parametrize.cached() cut it "
            "off"
        )


def check_dense(gradient: Tensor | None) -> Tensor | None:
    """The gradient; ValueError if it is sparse, as sparse gradients cannot be differentiated."""
    # Dynamo reads no layout in the backward of a Function; what it compiles is dense.
    compiling = torch.compiler.is_compiling()
    if gradient is not None and not compiling and gradient.layout != torch.strided:
        raise ValueError(
            f"loss: its gradient is {gradient.layout}, should be dense: make embeddings with "
            "sparse=False"
        )
    return gradient


def hessian_operator(function: Callable[[Tree], Tensor], params: Tree) -> Operator:
    """The map from a direction to the Hessian times it, at `params`.

    It is differentiable with respect to the tensors that `function` closes over, `params` and the
    direction, where gradients are on.
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
