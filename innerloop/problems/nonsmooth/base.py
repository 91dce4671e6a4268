"""The interface of nonsmooth terms, and what their settings have in common."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop.problems.checks import named


class Nonsmooth(ABC):
    """A convex term g of one tensor of the parameters, which need not be differentiable.

    It is given by its proximal operator, prox_ηg(v) = argmin_u g(u) + |u − v|² / 2η, whose Jacobian
    is symmetric. Both are made of differentiable torch operations.

    Source:
        Parikh and Boyd, Proximal Algorithms, 2014.
    """

    @abstractmethod
    def value(self, tensor: Tensor, batch_dims: int) -> Tensor:
        """g per problem, where the tensor's first `batch_dims` axes are the batch."""

    @abstractmethod
    def prox(self, tensor: Tensor, size: Tensor, batch_dims: int) -> Tensor:
        """prox_ηg of the tensor, for η `size`, one per problem or one for all."""

    def check(self, where: str, tensor: Tensor, batch_dims: int) -> None:  # noqa: B027 - most fit all
        """Raise ValueError if the term does not fit a tensor, named `where` in the message."""


def broadcast(value: float | Tensor, tensor: Tensor, batch_dims: int) -> Tensor:
    """A setting of a term as a tensor that broadcasts over `tensor`."""
    if not isinstance(value, Tensor):
        return tensor.new_tensor(value)
    if value.shape == tensor.shape[:batch_dims]:
        return trees.per_problem(value, tensor)
    return value.to(tensor.dtype)


def check_setting(
    name: str, value: float | Tensor, where: str, tensor: Tensor, batch_dims: int
) -> None:
    """Raise ValueError unless a setting has a shape that fits a tensor."""
    if not isinstance(value, Tensor) or value.shape == tensor.shape[:batch_dims]:
        return
    try:
        value.expand(tensor.shape)
    except RuntimeError:
        raise ValueError(
            f"{name}: shape {tuple(value.shape)}, should be (), the batch shape "
            f"{tuple(tensor.shape[:batch_dims])}, or broadcast over {where} of shape "
            f"{tuple(tensor.shape)}"
        ) from None


def check_per_problem(name: str, value: float | Tensor, tensor: Tensor, batch_dims: int) -> None:
    """Raise ValueError unless a setting is one number for a tensor, or one per problem."""
    shape = value.shape if isinstance(value, Tensor) else torch.Size()
    if shape not in (torch.Size(), tensor.shape[:batch_dims]):
        raise ValueError(
            f"{name}: shape {tuple(shape)}, should be () or the batch shape "
            f"{tuple(tensor.shape[:batch_dims])}"
        )


def check_dims(dims: tuple[int, ...], where: str, tensor: Tensor, batch_dims: int) -> None:
    """Raise ValueError unless these axes, counted from the last, lie past the batch of a tensor."""
    if -min(dims) > tensor.ndim - batch_dims:
        raise ValueError(
            f"dim: {min(dims)}, should be an axis of {where} of shape {tuple(tensor.shape)} past "
            f"the batch shape {tuple(tensor.shape[:batch_dims])}"
        )


def negative_dims(dim: int | tuple[int, ...]) -> tuple[int, ...]:
    """`dim` as a tuple; TypeError or ValueError unless its axes are counted from the last one."""
    dims = dim if isinstance(dim, tuple) else (dim,)
    for entry in dims:
        if isinstance(entry, bool) or not isinstance(entry, int):
            raise TypeError(f"dim: {named(entry)}, should be a whole number")
        if entry >= 0:
            raise ValueError(f"dim: {entry}, should be negative, counted from the last axis")
    if not dims:
        raise ValueError("dim: (), should name at least one axis")
    return dims


def check_values(name: str, value: object, good: str, lowest: float, above: bool = False) -> None:
    """Raise unless `value` is a number, or a tensor of numbers, from `lowest` on or above it."""
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise TypeError(f"{name}: {named(value)}, should be a number or a tensor")
    if isinstance(value, Tensor) and transforming():
        return
    found = torch.as_tensor(value).detach()
    if not bool((found > lowest if above else found >= lowest).all()):
        raise ValueError(f"{name}: {value}, should be {good}")


def length(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Euclidean norm along axes, which are kept; its derivative at zero is zero."""
    if 0 in tensor.shape:
        return tensor.square().sum(dims, keepdim=True)
    greatest = tensor.detach().abs().amax(dims, keepdim=True)
    empty = greatest == 0
    # Squares would overflow in single precision, or vanish.
    scale = torch.where(empty, 1.0, greatest)
    square = (tensor / scale).square().sum(dims, keepdim=True)
    return scale * torch.where(empty, 0.0, torch.where(empty, 1.0, square).sqrt())


def total(tensor: Tensor, batch_dims: int) -> Tensor:
    """Sum over all axes past the batch."""
    return tensor.flatten(batch_dims).sum(-1) if tensor.ndim > batch_dims else tensor
