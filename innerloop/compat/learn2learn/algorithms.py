"""Wrappers that adapt a clone of a module, as of `learn2learn.algorithms`."""

from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from innerloop.compat.copies import clone, copy_module, detached_copy
from innerloop.compat.learn2learn.optim import ParameterUpdate, Transform, gradients
from innerloop.compat.learn2learn.utils import update_module

__all__ = ["GBML", "MAML", "BaseLearner", "MetaSGD"]


class BaseLearner(nn.Module):
    """A module in a wrapper that is called as the module is and has its attributes.

    `copy.deepcopy` of an adapted clone gives one that starts from the values it has reached.

    Args:
        module: the module.
        first_order: take the gradients of adaptation as constants. Default False.
        allow_unused: let losses not depend on some parameters, which then stay. Default False.
    """

    module: nn.Module

    def __init__(
        self, module: nn.Module, first_order: bool = False, allow_unused: bool = False
    ) -> None:
        super().__init__()
        self.module = module
        self.first_order = first_order
        self.allow_unused = allow_unused

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module":
                raise
            return getattr(self.module, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return detached_copy(self, memo)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def _clone(self, **settings: Any) -> Self:
        """A clone, with those settings that are not None in place of one's own."""
        cloned = copy_module(self, clone, clone)
        for name, value in settings.items():
            if value is not None:
                setattr(cloned, name, value)
        return cloned

    def _gradients(
        self, loss: Tensor, first_order: bool | None, allow_unused: bool | None = None
    ) -> list[Tensor | None]:
        second = not _first(first_order, self.first_order)
        return gradients(
            loss,
            list(self.module.parameters()),
            create_graph=second,
            allow_unused=_first(allow_unused, self.allow_unused),
        )


class MAML(BaseLearner):
    """Model-agnostic meta-learning: gradient descent from parameters that are learned.

    Args:
        model: the module to adapt.
        lr: length of the steps; a number or a tensor.
        first_order: take the gradients of adaptation as constants. Default False.
        allow_unused: let losses not depend on some parameters, which then stay. Default: as
            `allow_nograd`.
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
        super().__init__(model, first_order, _first(allow_unused, allow_nograd))
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
            first_order, allow_unused, allow_nograd: as of the class. Default: those of the clone.
        """
        if allow_unused is None and allow_nograd:
            allow_unused = True
        found = self._gradients(loss, first_order, allow_unused)
        update_module(self.module, [None if g is None else -self.lr * g for g in found])

    def clone(
        self,
        first_order: bool | None = None,
        allow_unused: bool | None = None,
        allow_nograd: bool | None = None,
    ) -> Self:
        """A copy to adapt; gradients of its losses reach the parameters of this one.

        Args:
            first_order, allow_unused, allow_nograd: as of the class. Default: those of this one.
        """
        return self._clone(
            first_order=first_order, allow_unused=allow_unused, allow_nograd=allow_nograd
        )


class MetaSGD(BaseLearner):
    """MAML with a learned learning rate for every entry of every parameter.

    Args:
        model: the module to adapt.
        lr: value of all rates at first. Default 1.
        first_order: take the gradients of adaptation as constants. Default False.
        lrs: the rates, one tensor a parameter. Default: new ones.

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
            first_order: as of the class. Default: that of the clone.
        """
        found = self._gradients(loss, first_order)
        update_module(
            self.module,
            [None if g is None else -lr * g for lr, g in zip(self.lrs, found, strict=True)],
        )

    def clone(self) -> Self:
        """A copy to adapt; gradients of its losses reach the parameters and rates of this one."""
        return self._clone()


class GBML(BaseLearner):
    """Gradient-based meta-learning with a learned transform of gradients.

    Args:
        module: the module to adapt.
        transform: makes, for a parameter, the module that maps its gradient to its update, such as
            `optim.ModuleTransform(nn.Linear)`.
        lr: multiple of the updates. Default 1.
        adapt_transform: let `adapt` take a gradient step on the transforms first. Default False.
        first_order: take the gradients of adaptation as constants. Default False.
        allow_unused: let losses not depend on some parameters, which then stay. Default False.
        allow_nograd: accepted for compatibility: parameters that do not require a gradient stay as
            they are in any case.

    Source:
        Arnold et al., When MAML Can Adapt Fast and How to Assist When It Cannot, AISTATS 2021.
    """

    def __init__(
        self,
        module: nn.Module,
        transform: Transform,
        lr: float | Tensor = 1.0,
        adapt_transform: bool = False,
        first_order: bool = False,
        allow_unused: bool = False,
        allow_nograd: bool = False,
    ) -> None:
        super().__init__(module, first_order, allow_unused or allow_nograd)
        self.compute_update = ParameterUpdate(module.parameters(), transform)
        self.lr = lr
        self.adapt_transform = adapt_transform
        self.allow_nograd = allow_nograd

    def adapt(
        self,
        loss: Tensor,
        first_order: bool | None = None,
        allow_nograd: bool | None = None,
        allow_unused: bool | None = None,
    ) -> None:
        """Take a step on the parameters of this clone, and on its transforms if they adapt.

        Args:
            loss: scalar, computed with this clone.
            first_order, allow_nograd, allow_unused: as of the class. Default: those of the clone.
        """
        second = not _first(first_order, self.first_order)
        if self.adapt_transform:
            found = gradients(
                loss,
                list(self.compute_update.parameters()),
                create_graph=second,
                retain_graph=True,
                allow_unused=True,
            )
            update_module(self.compute_update, self._scaled(found))
        updates = self.compute_update(
            loss,
            self.module.parameters(),
            create_graph=second,
            allow_unused=_first(allow_unused, allow_nograd or self.allow_unused),
        )
        update_module(self.module, self._scaled(updates))

    def _scaled(self, changes: list[Tensor | None]) -> list[Tensor | None]:
        return [None if change is None else -self.lr * change for change in changes]

    def clone(
        self,
        first_order: bool | None = None,
        allow_unused: bool | None = None,
        allow_nograd: bool | None = None,
        adapt_transform: bool | None = None,
    ) -> Self:
        """A copy to adapt; gradients of its losses reach the parameters of this one.

        Args:
            first_order, allow_unused, allow_nograd, adapt_transform: as of the class. Default:
                those of this one.
        """
        return self._clone(
            first_order=first_order,
            allow_unused=allow_unused,
            allow_nograd=allow_nograd,
            adapt_transform=adapt_transform,
        )


def _first(choice: bool | None, default: bool) -> bool:
    return default if choice is None else choice
