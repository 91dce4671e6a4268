"""An optimizer that learns while it optimizes, like `learn2learn.optim.learnable_optimizer`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.compat.copies import Slots
from innerloop.compat.gradients import check_dense, of_dense
from innerloop.compat.learn2learn.optim.transforms import Transform


class LearnableOptimizer(nn.Module):
    """Steps of transformed gradients, whose transforms get the gradient of the next loss.

    Its `parameters()` are those of the transforms; give them to a separate optimizer.

    Args:
        model: gets the steps. After the first its parameters are results of computations.
        transform: makes, for a parameter, the module that maps its gradient to its update, such as
            `ModuleTransform(nn.Linear)`.
        lr: multiple of the updates. Default 1.

    Raises:
        ValueError: a parameter is sparse.

    Source:
        Baydin et al., Online Learning Rate Adaptation with Hypergradient Descent, ICLR 2018.
    """

    def __init__(self, model: nn.Module, transform: Transform, lr: float | Tensor = 1.0) -> None:
        super().__init__()
        check_dense(model.named_parameters())
        self._model = [model]  # in a list, it is no part of this module
        self.transforms = nn.ModuleList([transform(param) for param in model.parameters()])
        self.lr = lr

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with the attributes `grad` of the model's parameters.

        Args:
            closure: computes the loss and the gradients again, as in `torch.optim`. Default: the
                gradients exist already.

        Returns:
            What the closure returns.
        """
        (model,) = self._model
        with torch.enable_grad():
            loss = None if closure is None else closure()
            params: list[Tensor] = list(model.parameters())
            moved = [
                param if param.grad is None else self._moved(param, param.grad, transform)
                for param, transform in zip(params, self.transforms, strict=True)
            ]
        Slots(model).fill(model, moved)
        return loss

    def _moved(self, param: Tensor, gradient: Tensor, transform: nn.Module) -> Tensor:
        # The next loss reaches the transform through this step alone, not the steps before.
        new = param.detach() - self.lr * of_dense(transform, gradient.detach())
        if new.requires_grad:
            new.retain_grad()
        return new.requires_grad_()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the model's parameters; those of the transforms stay.

        Args:
            set_to_none: remove them, otherwise set them to zero. Default True.
        """
        self._model[0].zero_grad(set_to_none)
