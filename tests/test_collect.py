"""Gradients of features that a solve convolves many times, and what they must not cost."""

import pytest
import torch
from test_problems import problem_tensors

import innerloop as il
from innerloop.maps.convolution import channels_last
from innerloop.maps.weighting import square_weighted, weighted_square
from innerloop.problems.conv import ConvLeastSquares


class Separate(ConvLeastSquares):
    """The problem whose convolutions each send the features a gradient."""

    _collecting = None


def tensors(batch=(), frames=2):
    """Features, targets, weights, λ and a start, of so many outputs that convolutions pay."""
    x, y, w, tau = problem_tensors(batch, frames, channels=3, outputs=8, size=(6, 5))
    decay = torch.tensor(0.1, dtype=torch.float64)
    return [tensor.requires_grad_() for tensor in (x, y, w, decay, tau)]


def reached(problem, parts, steps=3, adjoint=None):
    *data, init = parts
    adjoint = adjoint or il.Unroll()
    return il.solve(problem(*data), init, il.SteepestDescent(), steps=steps, adjoint=adjoint).value


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("adjoint", [il.Unroll(), il.Unroll(checkpoint=2), il.Truncate(2)])
def test_collected_gradients_are_the_sum_of_separate_ones(batch, frames, adjoint):
    parts = tensors(batch, frames)
    results = []
    for problem in (ConvLeastSquares, Separate):
        # Twice the features: what reaches them elsewhere is added.
        outer = reached(problem, parts, adjoint=adjoint).square().sum() + parts[0].sum()
        results.append(torch.autograd.grad(outer, parts, materialize_grads=True))
    assert_close(*results)
    assert (results[0][0] - 1).abs().max() > 1e-3


def test_checkpoints_find_the_weights_and_the_features():
    parts = tensors()
    results = []
    for adjoint in (il.Unroll(), il.Unroll(checkpoint=2)):
        outer = reached(ConvLeastSquares, parts, adjoint=adjoint).square().sum()
        results.append(torch.autograd.grad(outer, parts))
    assert_close(*results)


def test_passes_that_want_no_features_and_repeated_passes_leave_nothing_behind():
    parts = tensors()
    outer = reached(ConvLeastSquares, parts).square().sum()
    (first,) = torch.autograd.grad(outer, parts[0], retain_graph=True)
    torch.autograd.grad(outer, parts[1], retain_graph=True)
    (second,) = torch.autograd.grad(outer, parts[0], retain_graph=True)
    (third,) = torch.autograd.grad(outer, parts[0])
    assert torch.equal(first, second)
    assert torch.equal(first, third)


@pytest.mark.parametrize("frames", [1, 2])
def test_the_gradient_can_be_differentiated_again(frames):
    parts = tensors(frames=frames)
    results = []
    for problem in (ConvLeastSquares, Separate):
        outer = reached(problem, parts, steps=2).square().sum()
        first = torch.autograd.grad(outer, parts, create_graph=True)
        second = torch.autograd.grad(sum(part.square().sum() for part in first), parts)
        results.append([*first, *second])
    assert_close(*results)


def test_under_a_transform_the_gradient_is_the_same():
    parts = tensors()

    def outer(x):
        return reached(ConvLeastSquares, [x, *parts[1:]]).square().sum()

    (expected,) = torch.autograd.grad(outer(parts[0]), parts[0])
    assert_close([torch.func.grad(outer)(parts[0].detach())], [expected])


def test_channels_stay_last_so_that_no_step_copies_the_features():
    x, y, *_ = problem_tensors(frames=2, outputs=8)
    features = ConvLeastSquares(x.requires_grad_(), y).features
    assert features.stride() == channels_last(x).stride()


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_one_frame_is_not_copied(order):
    x, y, *_ = problem_tensors(frames=1, outputs=8)
    x = x.contiguous(memory_format=order)
    features = ConvLeastSquares(x.requires_grad_(), y).features
    assert features.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("shape", [(2, 3, 2, 2), (2, 1, 2, 2), (2, 1, 1, 1)])
def test_weighted_squares_have_right_derivatives_of_two_orders(shape):
    torch.manual_seed(0)
    weights = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    for function, plain in (
        (weighted_square, lambda w, r: (w * r).square()),
        (square_weighted, lambda w, r: w * w * r),
    ):
        for w, r in ((weights, residual), (weights.detach(), residual.detach())):
            torch.testing.assert_close(function(w, r), plain(w, r))
        assert torch.autograd.gradcheck(function, (weights, residual))
        assert torch.autograd.gradgradcheck(function, (weights, residual))
