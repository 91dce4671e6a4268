"""The common part of the wrappers, like `learn2learn.algorithms.base_learner`."""

from typing import Any, Self

from torch import Tensor, nn

from innerloop.compat.copies import clone, copy_module, detached_copy
from innerloop.compat.gradients import check_dense, gradients


class BaseLearner(nn.Module):
    """A wrapper of a module that is called like the module and has its attributes.

    `copy.deepcopy` of an adapted clone gives one that starts from the values it has reached.

    Args:
        module: the module.
        first_order: take the gradients of adaptation as constants. Default False.
        allow_unused: allow losses that do not depend on some parameters, which then stay as they
            are. Default False.

    Raises:
        ValueError: a parameter is sparse.
    """

    module: nn.Module

    def __init__(
        self, module: nn.Module, first_order: bool = False, allow_unused: bool = False
    ) -> None:
        super().__init__()
        check_dense(module.named_parameters())
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
        """A clone; settings that are not None replace its own."""
        cloned = copy_module(self, clone, clone)
        for name, value in settings.items():
            if value is not None:
                setattr(cloned, name, value)
        return cloned

    def _gradients(
        self, loss: Tensor, first_order: bool | None, allow_unused: bool | None = None
    ) -> list[Tensor | None]:
        second = not chosen(first_order, self.first_order)
        return gradients(
            loss,
            self.module.parameters(),
            create_graph=second,
            allow_unused=chosen(allow_unused, self.allow_unused),
        )


def chosen(choice: bool | None, default: bool) -> bool:
    """An argument, or its default where it is None."""
    return default if choice is None else choice
