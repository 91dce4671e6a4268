"""The meta-parameters: tensors, and modules of which the trained parameters count."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop import trees
from innerloop.problems.checks import check_parameter
from innerloop.solvers.base import check_instance
from innerloop.trees import Tree


def meta_tensors(meta_parameters: Any) -> Tree:
    """The meta-parameters, with the dict of its trained parameters in place of every module.

    Raises:
        TypeError, ValueError: they hold something else, or are empty.
    """

    def tensors(node: Any) -> Tree:
        return trained(node) if isinstance(node, nn.Module) else node

    found = trees.tree_map(tensors, meta_parameters)
    for name, leaf in trees.named_leaves(found):
        check_parameter(f"meta_parameters[{name!r}]" if name else "meta_parameters", leaf)
    if not trees.leaves(found):
        raise ValueError("meta_parameters: hold no tensor to train, should hold at least one")
    return found


def trained(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module that require a gradient, by name."""
    named = module.named_parameters()
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def check_optimizer(optimizer: torch.optim.Optimizer, tensors: Tree) -> None:
    """Raise unless the optimizer holds exactly the trained tensors."""
    check_instance("optimizer", optimizer, torch.optim.Optimizer, "torch.optim.Adam(parameters)")
    held = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    named_tensors = trees.named_leaves(tensors)
    trained, known = {id(leaf) for _, leaf in named_tensors}, {id(tensor) for tensor in held}
    others = [tuple(t.shape) for t in held if t.requires_grad and id(t) not in trained]
    if others:
        raise ValueError(
            f"optimizer: holds {len(others)} tensors that are not among meta_parameters, of shapes "
            f"{others[:4]}, and would never be trained; hand their modules over as well, as in "
            "meta_parameters=[net, rates]"
        )
    missing = [
        name
        for name, leaf in named_tensors
        if id(leaf) not in known and (leaf.requires_grad or not isinstance(leaf, nn.Parameter))
    ]
    if missing:
        raise ValueError(
            f"meta_parameters: the optimizer does not hold {missing[:4]}, "
            f"{len(missing)} tensors in all, which would never change; it should"
        )
