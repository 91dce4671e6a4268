"""Checks of arguments that several problems take."""

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from innerloop._autodiff import transforming


def named(value: object) -> str:
    """A description of a wrong argument."""
    if isinstance(value, type):
        return f"the class {value.__name__}, not an instance of it"
    return type(value).__name__


def check_parameter(name: str, value: object) -> None:
    """Raise TypeError or ValueError unless `value` is a tensor that solvers can change.

    Args:
        name: name of the argument, for the message.
        value: the value, which should be dense, real and floating-point.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {type(value).__name__}, should be a tensor")
    if not torch.compiler.is_compiling() and is_lazy(value):
        raise ValueError(
            f"{name}: has no shape yet, should be initialised by calling its lazy module once"
        )
    if value.is_complex():
        raise ValueError(
            f"{name}: {value.dtype}, should be real: adapt torch.view_as_real(...) of it"
        )
    if not value.is_floating_point():
        raise ValueError(f"{name}: {value.dtype}, should be a floating-point tensor")
    if value.layout != torch.strided:
        raise ValueError(f"{name}: {value.layout}, should be dense: adapt .to_dense() of it")


def check_regularization(
    regularization: float | Tensor, batch_shape: torch.Size, like: Tensor | None = None
) -> Tensor:
    """`regularization` as a tensor of shape () or `batch_shape`, of the dtype and device of `like`.

    Without `like` a float keeps its double precision, to be converted where it is used.

    Raises:
        ValueError: the value has another shape, or is negative or NaN.
    """
    if like is not None:
        value = torch.as_tensor(regularization, dtype=like.dtype, device=like.device)
    elif isinstance(regularization, Tensor):
        value = regularization
    else:
        value = torch.tensor(regularization, dtype=torch.float64)
    if value.ndim and value.shape != batch_shape:
        raise ValueError(
            f"regularization: shape {tuple(value.shape)}, should be () or the batch shape "
            f"{tuple(batch_shape)}"
        )
    if not transforming() and not bool((value.detach() >= 0).all()):
        raise ValueError(f"regularization: {regularization}, should not be negative or NaN")
    return value


def check_not_empty(batch_dims: int, **tensors: Tensor) -> None:
    """Raise ValueError if an axis past the batch has no entry."""
    for name, tensor in tensors.items():
        if 0 in tensor.shape[batch_dims:]:
            raise ValueError(
                f"{name}: shape {tuple(tensor.shape)}, should have no empty axis but those of the "
                "batch"
            )


def check_alike(features: Tensor, **others: Tensor | None) -> None:
    """Raise ValueError unless all tensors have the dtype and device of the features."""
    if not features.is_floating_point():
        raise ValueError(f"features: {features.dtype}, should be a floating-point tensor")
    for name, tensor in others.items():
        if tensor is not None and (
            tensor.dtype != features.dtype or tensor.device != features.device
        ):
            raise ValueError(
                f"{name}: {tensor.dtype} on {tensor.device}, should be {features.dtype} on "
                f"{features.device} like the features"
            )


def check_whole(name: str, value: object, minimum: int) -> None:
    """Raise TypeError or ValueError unless `value` is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        raise TypeError(f"{name}: {value!r}, should be a whole number of at least {minimum}")
    if value < minimum:
        raise ValueError(f"{name}: {value}, should be at least {minimum}")
