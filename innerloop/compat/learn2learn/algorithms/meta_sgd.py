"""Meta-SGD, like `learn2learn.algorithms.meta_sgd`."""

from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from innerloop.compat.copies import Module
from innerloop.compat.learn2learn.algorithms.base_learner import BaseLearner
from innerloop.compat.learn2learn.utils import clone_module, clone_parameters, update_module

__all__ = ["BaseLearner", "MetaSGD", "clone_module", "clone_parameters", "meta_sgd_update"]


class MetaSGD(BaseLearner):
    """MAML with a learned learning rate for every entry of every parameter.

    Args:
        model: the module to adapt.
        lr: initial value of all rates. Default 1.
        first_order: take the gradients of adaptation as constants. Default False.
        lrs: the rates, one tensor per parameter. Default: new ones.

    Source:
        Li et al., Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, 2017, algorithm 1.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1.0,
        first_order: bool = False,
        lrs: Iterable[Tensor] | None = None,
    ) -> None:
        super().__init__(model, first_order)
        if lrs is None:
            lrs = [nn.Parameter(torch.full_like(param, lr)) for param in model.parameters()]
        self.lrs = nn.ParameterList(lrs)

    def adapt(self, loss: Tensor, first_order: bool | None = None) -> None:
        """Take a step on the parameters of this clone.

        Args:
            loss: scalar, computed with this clone.
            first_order: see the class. Default: that of the clone.
        """
        found = self._gradients(loss, first_order)
        meta_sgd_update(self.module, self.lrs, found)

    def clone(self) -> Self:
        """A copy to adapt; gradients of its losses reach the parameters and rates of this one."""
        return self._clone()


def meta_sgd_update(
    model: Module,
    lrs: Iterable[Tensor] | None = None,
    grads: Iterable[Tensor | None] | None = None,
) -> Module:
    """Take a gradient step with a rate for every entry of every parameter.

    Args:
        model: gets the new parameters.
        lrs: the rates of every parameter, in order. Default: the attribute `lr` of each.
        grads: the gradient of every parameter, in order; None leaves one alone. Default: the
            attribute `grad` of each.

    Returns:
        The module itself.

    Raises:
        ValueError: there are not as many rates and gradients as parameters.
    """
    params: list[Any] = list(model.parameters())
    rates = [param.lr for param in params] if lrs is None else list(lrs)
    if grads is None:
        grads = [param.grad for param in params]
    return update_module(
        model, [None if g is None else -lr * g for lr, g in zip(rates, grads, strict=True)]
    )
