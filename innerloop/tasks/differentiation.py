"""The gradient of the outer loss of one task, or of many at once under vmap."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop import trees
from innerloop._autodiff import ordinary
from innerloop.problems.checks import named
from innerloop.tasks.meta_parameters import trained
from innerloop.trees import Tree

TaskLoss: TypeAlias = Callable[[Any, Any], Tensor]
"""Maps meta-parameters and a task to an outer loss."""

Differentiate: TypeAlias = Callable[[Tree, Any], tuple[Tree, Tensor]]
"""Maps meta-parameters, as tensors, and a task to the gradient and the loss."""


def vmapped(task_loss: TaskLoss, randomness: str) -> Differentiate:
    """Differentiate stacked tasks at once; the gradient is the sum of theirs."""
    each = torch.func.vmap(torch.func.grad_and_value(task_loss), randomness=randomness)

    def differentiate(meta_parameters: Tree, group: Any) -> tuple[Tree, Tensor]:
        # Every task has its (expanded) copy: torch's recurrent layers write in place, which works
        # under vmap only if their parameters are batched.
        count = trees.leaves(group)[0].shape[0]
        copies = trees.tree_map(lambda leaf: leaf.expand(count, *leaf.shape), meta_parameters)
        gradients, losses = each(copies, group)
        return trees.tree_map(lambda leaf: leaf.sum(0), gradients), losses

    return differentiate


class _Modules(nn.Module):
    """Meta-parameters with modules, so that `functional_call` can replace their tensors."""

    def __init__(self, task_loss: TaskLoss, nodes: list[Any], spec: Any) -> None:
        super().__init__()
        self.task_loss = task_loss
        self.nodes = nn.ModuleDict(
            {str(i): node for i, node in enumerate(nodes) if isinstance(node, nn.Module)}
        )
        self.spec = spec

    def forward(self, parts: list[Any], task: Any) -> Tensor:
        modules = dict(self.nodes.items())
        nodes = [modules.get(str(i), part) for i, part in enumerate(parts)]
        return self.task_loss(trees.unflatten(nodes, self.spec), task)


def of_tensors(task_loss: TaskLoss, meta_parameters: Any) -> TaskLoss:
    """The loss as a function of tensors only, which are put into modules during the call."""
    nodes, spec = trees.flatten(meta_parameters)
    if not any(isinstance(node, nn.Module) for node in nodes):
        return task_loss
    bound = _Modules(task_loss, nodes, spec)

    def loss_of(tensors: Tree, task: Any) -> Tensor:
        parts = spec.flatten_up_to(tensors)
        inside = {
            f"nodes.{i}.{name}": tensor
            for i, part in enumerate(parts)
            if str(i) in bound.nodes
            for name, tensor in part.items()
        }
        loss: Tensor = functional_call(bound, inside, (parts, task))
        return loss

    return loss_of


def eager(task_loss: TaskLoss, meta_parameters: Any) -> Differentiate:
    """Differentiate a task by ordinary autograd.

    Args:
        task_loss: the outer loss.
        meta_parameters: tensors and modules as the user gave them, whose structure the loss sees.
    """
    nodes, spec = trees.flatten(meta_parameters)

    def differentiate(tensors: Tree, task: Any) -> tuple[Tree, Tensor]:
        parts = spec.flatten_up_to(tensors)
        with torch.enable_grad():
            fresh = [
                node if isinstance(node, nn.Module) else ordinary(part).detach().requires_grad_()
                for node, part in zip(nodes, parts, strict=True)
            ]
            # Modules are kept, as threads share them.
            given = [trained(x) if isinstance(x, nn.Module) else x for x in fresh]
            leaves, structure = trees.flatten(trees.unflatten(given, spec))
            loss = task_loss(trees.unflatten(fresh, spec), task)
            _check_loss(loss)
            gradients = (
                torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else []
            )
        if all(part is None for part in gradients):
            raise ValueError(
                "task_loss: its loss depends on no meta-parameter, should be computed from those "
                "that it is given, with an adjoint that lets gradients through (Detach() does not)"
            )
        filled = [
            torch.zeros_like(leaf) if part is None else part
            for leaf, part in zip(leaves, gradients, strict=True)
        ]
        return trees.unflatten(filled, structure), loss

    return differentiate


def _check_loss(loss: object) -> None:
    """Raise TypeError or ValueError unless an outer loss is a scalar."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"task_loss: returned {named(loss)}, should return a tensor")
    if loss.shape != torch.Size():
        raise ValueError(f"task_loss: returned shape {tuple(loss.shape)}, should be a scalar, ()")


def compiled(task_loss: TaskLoss) -> Differentiate:
    """Differentiate a task, compiled whole."""
    # Random numbers as in eager code, so that seeds mean the same.
    return torch.compile(torch.func.grad_and_value(task_loss), options={"fallback_random": True})
