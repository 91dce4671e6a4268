"""Depthwise convolutions with fast derivatives are what they were, and so are the derivatives."""

import pytest
import torch
from torch import nn

from innerloop_vos.backbones.depthwise import speed_up_depthwise
from innerloop_vos.backbones.efficientnet_lite0 import SameConv2d
from innerloop_vos.backbones.folded import folded_backbone


def pair(kernel, stride, dilation, dtype=torch.float64):
    """A depthwise convolution, and the same with fast derivatives."""
    torch.manual_seed(0)
    plain, fast = (nn.Sequential(SameConv2d(3, 3, kernel, stride, dilation, 3)) for _ in range(2))
    fast.load_state_dict(plain.state_dict())
    speed_up_depthwise(fast)
    return plain.to(dtype).requires_grad_(False), fast.to(dtype).requires_grad_(False)


CASES = [(3, 1, 1), (5, 1, 2), (3, 1, 2), (3, 2, 1), (5, 2, 1)]


@pytest.mark.parametrize(("kernel", "stride", "dilation"), CASES)
@pytest.mark.parametrize("size", [(8, 9), (7, 12)])
def test_first_and_second_derivatives(kernel, stride, dilation, size):
    plain, fast = pair(kernel, stride, dilation)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    assert torch.equal(plain(x), fast(x))
    assert type(fast[0]) is not type(plain[0])
    assert torch.autograd.gradcheck(fast, (x,))
    assert torch.autograd.gradgradcheck(lambda x: fast(x).square(), (x,))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), CASES)
def test_derivatives_in_half_precision(kernel, stride, dilation):
    plain, fast = pair(kernel, stride, dilation, torch.float32)
    x = torch.randn(2, 3, 12, 14, requires_grad=True)
    exact = torch.autograd.grad(plain(x).square().sum(), x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = fast(x)
    assert found.dtype == torch.bfloat16
    (half,) = torch.autograd.grad(found.float().square().sum(), x)
    assert (half - exact).abs().max() < 0.02 * exact.abs().max()


def test_weights_that_are_trained_have_their_derivatives():
    plain, fast = pair(5, 1, 2)
    x = torch.randn(1, 3, 8, 9, dtype=torch.float64)
    found = []
    for network in (plain, fast):
        network.requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(x).square().sum(), network[0].weight)
        found.append(gradient)
    assert torch.equal(*found)


def test_the_backbone_computes_its_derivative_as_before():
    torch.manual_seed(0)
    network = folded_backbone("default").requires_grad_(False)
    images = torch.rand(1, 3, 64, 96)
    found = []
    for fast in (True, False):
        if not fast:
            for module in network.modules():
                if isinstance(module, SameConv2d):
                    module.__class__ = SameConv2d
        x = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(x)["context16"].square().sum(), x)
        found.append(gradient)
    assert (found[0] - found[1]).abs().max() < 1e-4 * found[1].abs().max()
