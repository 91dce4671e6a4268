"""Updates of modules that can be differentiated, like `learn2learn.optim.update_rules`."""

from collections.abc import Iterable

from torch import Tensor, nn

from innerloop.compat.learn2learn.utils import update_module


class DifferentiableSGD(nn.Module):
    """Gradient descent that keeps the graph: p − lr · g for every parameter.

    Args:
        lr: length of the step.
    """

    def __init__(self, lr: float | Tensor) -> None:
        super().__init__()
        self.lr = lr

    def forward(self, model: nn.Module, updates: Iterable[Tensor | None]) -> None:
        """Replace the parameters of a module.

        Args:
            model: gets the new parameters.
            updates: the g of every parameter, in order; None leaves one alone.
        """
        update_module(model, [None if u is None else -self.lr * u for u in updates])
