"""Operations that inductor compiles badly for CPUs, written differently.

The figures are how many times longer a meta-step of MAML's convolutional net takes without each,
with torch 2.14; `python -m benchmarks.core.rewrites` measures them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional


def rewrite_for_cpu(graph: fx.GraphModule) -> None:
    """Replace what is slow among the operations on four-dimensional CPU tensors.

    Args:
        graph: as torch.compile hands it to a backend; changed in place.
    """
    for node in graph.graph.nodes:
        if _on_cpu(node):
            node.target = _IN_OTHER_WORDS.get(node.target, node.target)
    graph.recompile()


def _on_cpu(node: fx.Node) -> bool:
    value = node.meta.get("example_value")
    return isinstance(value, Tensor) and value.ndim == 4 and value.device.type == "cpu"


def _conv2d(input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Channels last, so that operations between convolutions process neighbours alike: 1.18."""
    # `contiguous` leaves a tensor of one channel, which fits both orders, in the other order.
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
    """Max pooling without indices if windows do not overlap: inductor's scatter along them is slow.

    1.20 times as long without.
    Equal max values of a window share the gradient, which torch gives to the first of them.
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
    """BatchNorm by the batch, step by step: torch's own derivatives take more passes, 1.07."""
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


_IN_OTHER_WORDS: dict[Any, Any] = {
    functional.batch_norm: _batch_norm,
    torch.conv2d: _conv2d,
    functional.max_pool2d: _max_pool2d,
    torch.max_pool2d: _max_pool2d,
}
