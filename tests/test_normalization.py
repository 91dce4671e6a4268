"""Batch normalisation by the batch: torch's own values and derivatives, of every order."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from innerloop.modules.normalization import batch_norm, use_batch_statistics

SHAPES = [(6, 3), (5, 3, 4), (4, 3, 2, 3), (2, 3, 2, 2, 2)]


def inputs(shape, **options):
    torch.manual_seed(0)
    options = {"dtype": torch.float64, "requires_grad": True, **options}
    return [2 + 3 * torch.randn(size, **options) for size in (shape, shape[1], shape[1])]


def native(x, weight, bias, eps):
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def composed(x, weight, bias, eps):
    """As `native`, of operations that torch differentiates any number of times."""
    axes = [0, *range(2, x.ndim)]
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    weight, bias = (t.reshape(-1, *(1,) * (x.ndim - 2)) for t in (weight, bias))
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def derivatives(norm, shape, orders):
    """The values and the derivatives up to an order along random directions."""
    tensors = [tensor.detach().requires_grad_() for tensor in inputs(shape)]
    found, outputs = [], [norm(*tensors, 1e-2)]
    for order in range(orders + 1):
        make = torch.Generator().manual_seed(order)
        found += [output.detach() for output in outputs]
        directed = sum(
            (output * torch.randn(output.shape, generator=make, dtype=output.dtype)).sum()
            for output in outputs
        )
        if order < orders:
            outputs = torch.autograd.grad(
                directed, tensors, create_graph=True, materialize_grads=True
            )
    return found


@pytest.mark.parametrize(("reference", "orders"), [(native, 2), (composed, 3)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_derivatives_are_those_of_torch(shape, reference, orders):
    actual, expected = (derivatives(norm, shape, orders) for norm in (batch_norm, reference))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_weight_of_zero_has_its_derivatives():
    x, weight, bias = inputs((4, 3, 2, 2))
    weight = torch.zeros_like(weight, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *t: batch_norm(*t, 1e-2), (x, weight, bias))


def test_single_precision_is_as_close_as_that_of_torch():
    tensors = inputs((25, 8, 14, 14), dtype=torch.float32, requires_grad=False)
    exact = native(*(tensor.double() for tensor in tensors), 1e-5)
    own, theirs = ((norm(*tensors, 1e-5) - exact).abs().max() for norm in (batch_norm, native))
    assert own <= 2 * theirs


@pytest.mark.parametrize("transform", [torch.func.vmap, lambda f: f])
def test_second_derivatives_under_transforms(transform):
    x, weight, bias = inputs((4, 3, 2, 2), requires_grad=False)

    def penalty(norm):
        def loss(x):
            return norm(x, weight, bias, 1e-2).sin().sum()

        return torch.func.grad(lambda x: torch.func.grad(loss)(x).square().sum())

    stacked = torch.stack([x, 2 * x**2])
    expected = torch.stack([penalty(native)(one) for one in stacked])
    if transform is torch.func.vmap:
        actual = transform(penalty(batch_norm))(stacked)
    else:
        actual = torch.stack([penalty(batch_norm)(one) for one in stacked])
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.BatchNorm1d, (6, 3)), (nn.BatchNorm2d, (2, 3, 4, 4))]
)
def test_a_layer_told_to_use_the_batch_does(layer, shape, affine):
    layer = layer(3, affine=affine).double()
    x = inputs(shape)[0]
    expected = layer.train()(x)
    use_batch_statistics(layer.eval())
    torch.testing.assert_close(layer(x), expected)
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)


def test_a_layer_says_what_it_cannot_normalise():
    layer = nn.BatchNorm2d(3)
    use_batch_statistics(layer)
    with pytest.raises(ValueError, match=r"^input: shape \(1, 3, 1, 1\)"):
        layer(torch.ones(1, 3, 1, 1))
    with pytest.raises(ValueError, match="expected 4D"):
        layer(torch.ones(4, 3))
