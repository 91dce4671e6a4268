"""Model-agnostic meta-learning, like `learn2learn.algorithms.maml`."""

from collections.abc import Iterable
from typing import Self

from torch import Tensor, nn

from innerloop.compat.copies import Module
from innerloop.compat.learn2learn.algorithms.base_learner import BaseLearner, chosen
from innerloop.compat.learn2learn.utils import clone_module, update_module

__all__ = ["MAML", "BaseLearner", "clone_module", "maml_update", "update_module"]


class MAML(BaseLearner):
    """Model-agnostic meta-learning: gradient descent from parameters that are learned.

    Args:
        model: the module to adapt.
        lr: length of the steps; a number or a tensor.
        first_order: take the gradients of adaptation as constants. Default False.
        allow_unused: allow losses that do not depend on some parameters, which then stay as they
            are. Default: `allow_nograd`.
        allow_nograd: sets the default of `allow_unused`. Parameters that do not require a gradient
            stay as they are in any case; learn2learn 0.2.0 fails on them unless it is set.

    Source:
        Finn et al., Model-Agnostic Meta-Learning, ICML 2017, algorithm 1.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float | Tensor,
        first_order: bool = False,
        allow_unused: bool | None = None,
        allow_nograd: bool = False,
    ) -> None:
        super().__init__(model, first_order, chosen(allow_unused, allow_nograd))
        self.lr = lr
        self.allow_nograd = allow_nograd

    def adapt(
        self,
        loss: Tensor,
        first_order: bool | None = None,
        allow_unused: bool | None = None,
        allow_nograd: bool | None = None,
    ) -> None:
        """Take a gradient step on the parameters of this clone.

        Args:
            loss: scalar, computed with this clone.
            first_order, allow_unused, allow_nograd: see the class. Default: those of the clone.
        """
        if allow_unused is None and allow_nograd:
            allow_unused = True
        found = self._gradients(loss, first_order, allow_unused)
        maml_update(self.module, self.lr, found)

    def clone(
        self,
        first_order: bool | None = None,
        allow_unused: bool | None = None,
        allow_nograd: bool | None = None,
    ) -> Self:
        """A copy to adapt; gradients of its losses reach the parameters of this one.

        Args:
            first_order, allow_unused, allow_nograd: see the class. Default: those of this one.
        """
        return self._clone(
            first_order=first_order, allow_unused=allow_unused, allow_nograd=allow_nograd
        )


def maml_update(
    model: Module, lr: float | Tensor, grads: Iterable[Tensor | None] | None = None
) -> Module:
    """Take a gradient step on a module's parameters, in a way that can be differentiated.

    Args:
        model: gets the new parameters.
        lr: length of the step.
        grads: the gradient of every parameter, in order; None leaves one alone. Default: the
            attribute `grad` of each.

    Returns:
        The module itself.

    Raises:
        ValueError: there are not as many gradients as parameters.
    """
    if grads is None:
        grads = [param.grad for param in model.parameters()]
    return update_module(model, [None if g is None else -lr * g for g in grads])
