"""Depthwise convolutions that are not trained, with fast derivatives on CPUs.

oneDNN takes twenty times as long for the derivative of a dilated depthwise convolution as for the
convolution, and ten times as long in bfloat16 as in float32 where it has strides.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from innerloop_vos.backbones.efficientnet_lite0 import SameConv2d


def speed_up_depthwise(network: nn.Module) -> None:
    """Replace, in place, the depthwise convolutions in every `nn.Sequential`; names stay.

    They compute the same, and can be trained as before.

    Args:
        network: network with `SameConv2d`s.
    """
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for conv in sequence:
            if isinstance(conv, SameConv2d) and conv.groups == conv.in_channels > 1:
                conv.__class__ = _DepthwiseConv2d


class _DepthwiseConv2d(SameConv2d):
    """A `SameConv2d` whose derivative is fast where its weights are constant."""

    def convolve(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        if self.weight.requires_grad or not x.requires_grad:
            return super().convolve(x, padding)
        y: Tensor = _Depthwise.apply(
            x, self.weight, self.bias, self.stride[0], padding, self.dilation[0]
        )
        return y


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose weights are constant."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: tuple[int, int],
        dilation: int,
    ) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, *rest = inputs
        ctx.save_for_backward(weight)
        ctx.size, ctx.rest = x.shape, rest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (weight,), (stride, padding, dilation) = gradients, ctx.saved_tensors, ctx.rest
        groups = len(weight)
        if stride == 1:
            # The transpose of a convolution is that with the kernel turned round.
            reach = [dilation * (side - 1) for side in weight.shape[2:]]
            rest = [whole - part for whole, part in zip(reach, padding, strict=True)]
            turned = weight.flip(2, 3).to(gradient)
            found = F.conv2d(gradient, turned, None, 1, rest, dilation, groups)
        else:
            wide = gradient.float() if gradient.dtype == torch.bfloat16 else gradient
            found = conv2d_input(  # type: ignore[no-untyped-call]
                ctx.size, weight.to(wide), wide, stride, padding, dilation, groups
            ).to(gradient)
        return found, None, None, None, None, None
