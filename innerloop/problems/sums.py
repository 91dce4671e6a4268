"""Sums over samples, which take the place of the samples: what all kinds of them share."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor

from innerloop._autodiff import transforming
from innerloop._torch import pytree
from innerloop.problems.checks import named


class Sums:
    """Sums over samples, of constant size however many samples there are.

    A subclass is a frozen dataclass whose fields are tensors. Operations return new sums, whose
    tensors carry the gradient of what they were made of.
    """

    def __init_subclass__(cls) -> None:
        """Make sums trees of tensors for `torch.func`."""
        pytree.register_pytree_node(
            cls, _flatten, _unflatten_as(cls), serialized_type_name=f"innerloop.{cls.__name__}"
        )

    @property
    @abstractmethod
    def batch_shape(self) -> torch.Size:
        """Leading dimensions; each entry is an independent problem."""

    @abstractmethod
    def __add__(self, other: Self) -> Self:
        """The sums over the samples of both."""

    @abstractmethod
    def _times(self, factor: Tensor) -> Self:
        """`scaled` by a checked factor."""

    @abstractmethod
    def _check_same(self, name: str, other: Self) -> None:
        """Raise ValueError unless `other`, the argument `name`, can be added to these."""

    def scaled(self, factor: float | Tensor) -> Self:
        """The sums over the same samples, each counted `factor` times.

        Args:
            factor: not negative; a float, or a tensor of shape () or (*batch).

        Raises:
            TypeError, ValueError: the factor is no number, has another shape, or is negative,
                infinite or NaN.
        """
        value = self._per_problem("factor", factor)
        if not transforming() and not bool(((value >= 0) & value.isfinite()).all()):
            raise ValueError(f"factor: {factor}, should be finite and not negative")
        return self._times(value)

    def updated(self, new: Self, rate: float | Tensor) -> Self:
        """The moving average (1 − γ) of these and γ of new ones, which forgets old samples.

        Args:
            new: sums over the new samples.
            rate: γ, above 0 and at most 1; a float, or a tensor of shape () or (*batch).

        Raises:
            TypeError, ValueError: the new sums do not fit these, or the rate is no number or has
                another shape or value.
        """
        self._check_fits("new", new)
        value = self._per_problem("rate", rate)
        if not transforming() and not bool(((value > 0) & (value <= 1)).all()):
            raise ValueError(f"rate: {rate}, should be above 0 and at most 1")
        # Not fused: the rounding of a fused product depends on where in memory an entry lies, and
        # a matrix would lose its symmetry.
        return self.scaled(1 - value) + new.scaled(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors by name; the class called with them makes the same sums."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def detach(self) -> Self:
        """The same without gradient."""
        return type(self)(**{name: part.detach() for name, part in self.state_dict().items()})

    def _check_fits(self, name: str, other: object) -> None:
        if not isinstance(other, type(self)):
            raise TypeError(f"{name}: {named(other)}, should be {type(self).__name__}")
        self._check_same(name, other)
        check_like(name, tensors(other)[0], f"the {type(self).__name__.lower()}", tensors(self)[0])

    def _per_problem(self, name: str, value: float | Tensor) -> Tensor:
        if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
            raise TypeError(f"{name}: {named(value)}, should be a number or a tensor")
        like = tensors(self)[0]
        value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        if value.ndim and value.shape != self.batch_shape:
            raise ValueError(
                f"{name}: shape {tuple(value.shape)}, should be () or the batch shape "
                f"{tuple(self.batch_shape)}"
            )
        return value


def tensors(sums: Sums) -> list[Tensor]:
    """The tensors of sums, in order."""
    return list(sums.state_dict().values())


def check_like(name: str, tensor: Tensor, other: str, like: Tensor) -> None:
    """Raise ValueError unless a tensor has the dtype and device of another."""
    if tensor.dtype != like.dtype or tensor.device != like.device:
        raise ValueError(
            f"{name}: {tensor.dtype} on {tensor.device}, should be {like.dtype} on {like.device} "
            f"like {other}"
        )


def _flatten(sums: Sums) -> tuple[list[Tensor], None]:
    return tensors(sums), None


def _unflatten_as(kind: type[Sums]) -> Any:
    def unflatten(leaves: Iterable[Tensor], context: None) -> Sums:
        # Unchecked: a tree may hold anything in place of its tensors.
        sums = object.__new__(kind)
        for field, leaf in zip(fields(kind), leaves, strict=True):  # type: ignore[arg-type]
            object.__setattr__(sums, field.name, leaf)
        return sums

    return unflatten
