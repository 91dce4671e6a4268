"""Batch normalisation whose second derivative costs about as much as its first.

Torch's own takes about fifty passes over its input for the second derivative, a quarter of the time
of unrolled steps of small convolutional nets.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from innerloop._autodiff import transforming
from innerloop._primitive import Primitive
from innerloop._torch import BatchNorm


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise every channel by its mean and variance over the batch, then scale and shift it.

    Args:
        x: shape (N, C, ...), floating point, more than one value per channel.
        weight, bias: shape (C,).
        eps: added to the variance.

    Returns:
        A tensor of the shape of `x`, differentiable any number of times.

    Source:
        Ioffe and Szegedy, Batch Normalization, ICML 2015, algorithm 1.
    """
    if torch.compiler.is_compiling():
        # Inside torch.func.grad, the Function does not work under torch.compile.
        return functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    normalized: Tensor = _BatchNormalization.apply(x, weight, bias, eps)[0]
    return normalized


class _BatchNormalization(Primitive):
    """y = w z + b with z = r (x − mean) and r = (variance + eps)^(-1/2), per channel.

    It returns z and r as well: the gradient is a function of these alone, and the gradient of the
    gradient reaches x through them.
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = _axes(x)
        centered = x - x.mean(axes, keepdim=True)
        scale = (centered.square().mean(axes, keepdim=True) + eps).rsqrt()
        z = centered * scale if transforming() else centered.mul_(scale)
        return _plus(z * _channels(weight, z), _channels(bias, z)), z, scale.flatten()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[1], output[1], output[2])

    @staticmethod
    def backward(
        ctx: Any, grad_y: Tensor | None, grad_z: Tensor | None, grad_r: Tensor | None
    ) -> Any:
        weight, z, r = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if grad_y is not None:
            grad_x, grad_weight, grad_bias = _Gradient.apply(grad_y, weight, z, r)
        if grad_z is not None or grad_r is not None:  # derivatives of the gradient
            grad_z = torch.zeros_like(z) if grad_z is None else grad_z
            grad_r = torch.zeros_like(r) if grad_r is None else grad_r
            count, axes = z.numel() / r.numel(), _axes(z)
            along = (grad_z * z).sum(axes) + r * grad_r
            through = _combine(r, grad_z, -r * along / count, z, -r * grad_z.sum(axes) / count)
            grad_x = through if grad_x is None else grad_x + through
        return grad_x, grad_weight, grad_bias, None


class _Gradient(Primitive):
    """The gradient by x, weight and bias: w r (g − mean(g) − z mean(g z)), Σ g z and Σ g."""

    @staticmethod
    def forward(
        grad_y: Tensor, weight: Tensor, z: Tensor, r: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        count, axes = z.numel() / r.numel(), _axes(z)
        along, total = (grad_y * z).sum(axes), grad_y.sum(axes)
        wr = weight * r
        return _combine(wr, grad_y, -wr * along / count, z, -wr * total / count), along, total

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, u: Tensor, u_along: Tensor, u_total: Tensor) -> Any:
        grad_y, weight, z, r, along = ctx.saved_tensors
        count, axes = z.numel() / r.numel(), _axes(z)
        wr = weight * r
        uz, sum_u = (u * z).sum(axes), u.sum(axes)
        inner = (u * grad_y).sum(axes) - (sum_u * grad_y.sum(axes) + uz * along) / count
        by_z = u_along - wr * uz / count
        return (
            _combine(wr, u, by_z, z, u_total - wr * sum_u / count),
            r * inner,
            _plus_product(u * _channels(-wr * along / count, u), grad_y, _channels(by_z, u)),
            weight * inner,
        )


def _combine(a: Tensor, x: Tensor, b: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """a x + b y + c with one a, b and c per channel."""
    return _plus_product(_plus(x * _channels(a, x), _channels(c, x)), y, _channels(b, x))


def _plus(fresh: Tensor, b: Tensor) -> Tensor:
    """Their sum, written in place, except under transforms, where batches would not fit."""
    return fresh + b if transforming() else fresh.add_(b)


def _plus_product(fresh: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`fresh + a b`, as `_plus`."""
    return torch.addcmul(fresh, a, b) if transforming() else fresh.addcmul_(a, b)


def _axes(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """`values`, one per channel, broadcasting over `like`."""
    return values.reshape(-1, *(1,) * (like.ndim - 2))


class _ByBatch(BatchNorm):
    """A BatchNorm layer that normalises by its batch, whatever its mode."""

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        if input.numel() <= input.shape[1]:
            raise ValueError(
                f"input: shape {tuple(input.shape)}, BatchNorm by the statistics of the batch "
                "needs more than one value per channel"
            )
        if not self.affine:
            one = input.new_ones(self.num_features)
            return batch_norm(input, one, torch.zeros_like(one), self.eps)
        return batch_norm(input, self.weight, self.bias, self.eps)


class _ByBatch1d(_ByBatch, nn.BatchNorm1d):
    pass


class _ByBatch2d(_ByBatch, nn.BatchNorm2d):
    pass


class _ByBatch3d(_ByBatch, nn.BatchNorm3d):
    pass


_BY_BATCH: dict[type[nn.Module], type[_ByBatch]] = {
    nn.BatchNorm1d: _ByBatch1d,
    nn.BatchNorm2d: _ByBatch2d,
    nn.BatchNorm3d: _ByBatch3d,
}


def use_batch_statistics(layer: BatchNorm) -> None:
    """Make a BatchNorm layer normalise by its batch, in place; not foreign subclasses."""
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(layer, name, None)
    layer.__class__ = _BY_BATCH.get(type(layer), type(layer))


def with_statistics(module: nn.Module, batch_statistics: bool) -> dict[int, nn.Module]:
    """By the `id` of each BatchNorm layer, one like it that uses one kind of statistics."""
    return {
        id(layer): _with_statistics(layer, batch_statistics)
        for layer in module.modules()
        if isinstance(layer, BatchNorm)
    }


def _with_statistics(layer: BatchNorm, batch_statistics: bool) -> BatchNorm:
    changed = copy(layer)
    changed._buffers = layer._buffers.copy()
    changed.training = False
    if batch_statistics or layer.running_mean is None:
        use_batch_statistics(changed)
    return changed


@contextmanager
def recorded_statistics(skeleton: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect mean and variance of the inputs of each BatchNorm, averaged over its calls."""
    statistics: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def record(name: str, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        (x,) = args
        axes = [axis for axis in range(x.ndim) if axis != 1]
        count = calls[name] = calls.get(name, 0) + 1
        # As torch's own running statistics: the variance is unbiased where that is defined.
        unbiased = x.numel() // x.shape[1] > 1
        for key, new in (
            (f"{name}.running_mean", x.detach().mean(axes)),
            (f"{name}.running_var", x.detach().var(axes, unbiased=unbiased)),
        ):
            old = statistics.get(key, torch.zeros_like(new))
            statistics[key] = old + (new - old) / count

    handles = [
        layer.register_forward_pre_hook(partial(record, name))
        for name, layer in skeleton.named_modules()
        if isinstance(layer, BatchNorm)
    ]
    try:
        yield statistics
    finally:
        for handle in handles:
            handle.remove()
