"""Gradients that pass through transforms, like `learn2learn.optim`."""

from collections.abc import Iterable

from torch import Tensor, nn

from innerloop.compat.gradients import check_dense, gradients, of_dense
from innerloop.compat.learn2learn.optim.transforms import Transform


class ParameterUpdate(nn.Module):
    """`torch.autograd.grad` whose gradients pass through learned transforms.

    Args:
        parameters: the parameters to update, in order.
        transform: makes the transform of each.
    """

    def __init__(self, parameters: Iterable[Tensor], transform: Transform) -> None:
        super().__init__()
        listed = list(parameters)
        check_dense((f"parameters[{index}]", param) for index, param in enumerate(listed))
        self.transforms_modules = nn.ModuleList([transform(param) for param in listed])

    def forward(
        self,
        loss: Tensor,
        parameters: Iterable[Tensor],
        create_graph: bool = False,
        retain_graph: bool = False,
        allow_unused: bool = False,
        allow_nograd: bool = False,
    ) -> list[Tensor | None]:
        """The update of every parameter, None where there is no gradient.

        Args:
            loss, create_graph, retain_graph, allow_unused: see `torch.autograd.grad`.
            parameters: ordered as those that the object was made for.
            allow_nograd: accepted for compatibility: parameters that do not require a gradient
                have no update in any case.
        """
        found = gradients(
            loss,
            parameters,
            create_graph=create_graph,
            retain_graph=create_graph or retain_graph,
            allow_unused=allow_unused,
        )
        return [
            None if gradient is None else of_dense(transform, gradient)
            for transform, gradient in zip(self.transforms_modules, found, strict=True)
        ]
