"""Gradients of inner losses as compiled graphs, which all steps and all tasks share."""

from collections.abc import Callable
from typing import Any

import torch
import torch._functorch.config
from torch import Tensor, fx
from torch._dynamo.backends.registry import lookup_backend
from torch.nn import functional

from innerloop import trees
from innerloop.autodiff import transforming, value_and_gradient
from innerloop.problems import Objective
from innerloop.trees import Tree

ValueAndGradient = Callable[[Callable[[Tree], Tensor], Tree], tuple[Tensor, Tree]]


class CompiledObjective(Objective):
    """An `Objective` whose gradient is computed by a compiled function.

    Args:
        fn: as of `Objective`.
        compiled: from `compiled_value_and_gradient`; it compiles once for all losses that run the
            same code on tensors of the same shapes.
    """

    def __init__(self, fn: Callable[[Tree], Tensor], compiled: ValueAndGradient) -> None:
        super().__init__(fn)
        self._compiled = compiled

    def value_and_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        if transforming():
            return super().value_and_gradient(params)
        # Views: leaves and parameters would be compiled for apart from what steps return.
        return self._compiled(self.loss, trees.tree_map(lambda leaf: leaf.view_as(leaf), params))


def compiled_value_and_gradient() -> ValueAndGradient:
    """A compiled `autodiff.value_and_gradient`, differentiable once more.

    Nothing but a step's parameters is kept for the derivative of its gradient, which computes the
    rest again: one graph that is fused as a whole, at the memory of one step.
    """
    options: dict[str, Any] = {"backend": _backend, "isolate_recompiles": True}
    compiled: ValueAndGradient = torch.compile(value_and_gradient, fullgraph=True, **options)
    return compiled


def _backend(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    """Inductor, with what it compiles badly for processors put in other words."""
    for node in graph.graph.nodes:
        value = node.meta.get("example_value")
        if isinstance(value, Tensor) and value.ndim == 4 and value.device.type == "cpu":
            node.target = _ON_CPU.get(node.target, node.target)
    graph.recompile()
    with torch._functorch.config.patch(activation_memory_budget=0.0):
        compiled: Callable[..., Any] = lookup_backend("inductor")(graph, inputs)
    return compiled


def _conv2d(input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Channels last, so that what lies between convolutions treats neighbours in memory alike."""
    # `contiguous` leaves a tensor of one channel, which is in either order, in the other.
    input, weight = (t.clone(memory_format=torch.channels_last) for t in (input, weight))
    return functional.conv2d(input, weight, *args, **kwargs)


def _max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Without indices where windows do not overlap: inductor's scatter along them is slow.

    Equal greatest values of a window share the gradient, which torch gives to the first of them.
    """
    height, width = _pair(kernel_size)
    if (
        _pair(stride or kernel_size) != (height, width)
        or _pair(padding) != (0, 0)
        or _pair(dilation) != (1, 1)
        or ceil_mode
        or return_indices
    ):
        original: Callable[..., Any] = functional.max_pool2d
        return original(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    rows, columns = input.shape[-2] // height, input.shape[-1] // width
    whole = input[..., : rows * height, : columns * width].permute(0, 2, 3, 1)
    windows = whole.reshape(len(input), rows, height, columns, width, input.shape[1])
    return windows.amax((2, 4)).permute(0, 3, 1, 2)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """By the statistics of the batch, step by step: torch's own derivatives take more passes."""
    if not training or running_mean is not None or weight is None or bias is None:
        return functional.batch_norm(
            input, running_mean, running_var, weight, bias, training, momentum, eps
        )
    axes = [0, 2, 3]
    centered = input - input.mean(axes, keepdim=True)
    scale = (centered.square().mean(axes, keepdim=True) + eps).rsqrt()
    return centered * (scale * weight[:, None, None]) + bias[:, None, None]


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


_ON_CPU: dict[Any, Callable[..., Any]] = {
    functional.batch_norm: _batch_norm,
    torch.conv2d: _conv2d,
    functional.max_pool2d: _max_pool2d,
    torch.max_pool2d: _max_pool2d,
}
