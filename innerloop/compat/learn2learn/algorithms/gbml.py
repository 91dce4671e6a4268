"""Meta-learning with learned updates, like `learn2learn.algorithms.gbml`."""

from typing import Self

from torch import Tensor, nn

from innerloop.compat.gradients import gradients
from innerloop.compat.learn2learn.algorithms.base_learner import BaseLearner, chosen
from innerloop.compat.learn2learn.optim.parameter_update import ParameterUpdate
from innerloop.compat.learn2learn.optim.transforms import Transform
from innerloop.compat.learn2learn.utils import update_module


class GBML(BaseLearner):
    """Gradient-based meta-learning with a learned transform of gradients.

    Args:
        module: the module to adapt.
        transform: makes, for a parameter, the module that maps its gradient to its update, such as
            `optim.ModuleTransform(nn.Linear)`.
        lr: multiple of the updates. Default 1.
        adapt_transform: let `adapt` take a gradient step on the transforms first. Default False.
        first_order: take the gradients of adaptation as constants. Default False.
        allow_unused: allow losses that do not depend on some parameters, which then stay as they
            are. Default False.
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
            first_order, allow_nograd, allow_unused: see the class. Default: those of the clone.
        """
        second = not chosen(first_order, self.first_order)
        if self.adapt_transform:
            found = gradients(
                loss,
                self.compute_update.parameters(),
                create_graph=second,
                retain_graph=True,
                allow_unused=True,
            )
            update_module(self.compute_update, self._scaled(found))
        updates = self.compute_update(
            loss,
            self.module.parameters(),
            create_graph=second,
            allow_unused=chosen(allow_unused, allow_nograd or self.allow_unused),
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
            first_order, allow_unused, allow_nograd, adapt_transform: see the class. Default:
                those of this one.
        """
        return self._clone(
            first_order=first_order,
            allow_unused=allow_unused,
            allow_nograd=allow_nograd,
            adapt_transform=adapt_transform,
        )
