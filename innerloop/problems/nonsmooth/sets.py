"""Convex sets, as terms that are zero inside and infinite outside: their prox is the projection."""

from abc import abstractmethod

import torch
from torch import Tensor

from innerloop._autodiff import transforming
from innerloop.problems.nonsmooth.base import (
    Nonsmooth,
    broadcast,
    check_dims,
    check_per_problem,
    check_setting,
    check_values,
    length,
    negative_dims,
)


class ConvexSet(Nonsmooth):
    """A convex set of values of one tensor, known by the projection onto it.

    Its value is given as zero everywhere, as the steps of solvers end inside.
    """

    @abstractmethod
    def project(self, tensor: Tensor, batch_dims: int) -> Tensor:
        """The nearest point of the set."""

    def value(self, tensor: Tensor, batch_dims: int) -> Tensor:
        return tensor.new_zeros(tensor.shape[:batch_dims])

    def prox(self, tensor: Tensor, size: Tensor, batch_dims: int) -> Tensor:
        return self.project(tensor, batch_dims)


class Box(ConvexSet):
    """Bounds on every parameter, lower ≤ p ≤ upper.

    Args:
        lower, upper: numbers, or tensors of shape (), one value per problem, or broadcasting over
            the parameters; an infinite one is no bound. Default: none.
    """

    def __init__(
        self, lower: float | Tensor = -torch.inf, upper: float | Tensor = torch.inf
    ) -> None:
        check_values("lower", lower, "a number, not NaN", -torch.inf)
        check_values("upper", upper, "a number, not NaN", -torch.inf)
        self.lower = lower
        self.upper = upper

    def project(self, tensor: Tensor, batch_dims: int) -> Tensor:
        lower, upper = (
            broadcast(bound, tensor, batch_dims).expand_as(tensor)
            for bound in (self.lower, self.upper)
        )
        # Unlike min and max, whose derivative is split where both sides are equal.
        projected = torch.where(tensor < lower, lower, tensor)
        return torch.where(projected > upper, upper, projected)

    def check(self, where: str, tensor: Tensor, batch_dims: int) -> None:
        for name, bound in (("lower", self.lower), ("upper", self.upper)):
            check_setting(name, bound, where, tensor, batch_dims)
        if transforming():
            return
        lower, upper = (
            broadcast(bound, tensor, batch_dims).detach() for bound in (self.lower, self.upper)
        )
        if not bool((lower <= upper).all()):
            raise ValueError(f"lower: {self.lower}, should not be above upper, {self.upper}")


class NonNegative(Box):
    """Parameters of at least zero."""

    def __init__(self) -> None:
        super().__init__(lower=0.0)


class Simplex(ConvexSet):
    """Vectors of numbers that are not negative and have a given sum, such as probabilities.

    Args:
        total: the sum, above 0: a number, or a tensor of shape () or one value per problem.
            Default 1.
        dim: the axis of a vector, counted from the last one. Default -1.

    Source:
        Held et al., Validation of Subgradient Optimization, 1974; Duchi et al., Efficient
        Projections onto the l1-Ball, ICML 2008, figure 1.
    """

    def __init__(self, total: float | Tensor = 1.0, dim: int = -1) -> None:
        check_values("total", total, "above 0", 0.0, above=True)
        self.total = total
        (self.dim,) = negative_dims(dim)

    def project(self, tensor: Tensor, batch_dims: int) -> Tensor:
        total = broadcast(self.total, tensor, batch_dims)
        with torch.no_grad():
            ordered = tensor.sort(self.dim, descending=True).values
            size = tensor.shape[self.dim]
            count = torch.arange(1, size + 1, dtype=tensor.dtype, device=tensor.device)
            count = count.reshape(-1, *(1,) * (-self.dim - 1))
            support = count * ordered > ordered.cumsum(self.dim) - total
            least = torch.where(support, ordered, torch.inf).amin(self.dim, keepdim=True)
            inside = tensor >= least
        # What the support is, is constant nearly everywhere.
        number = inside.sum(self.dim, keepdim=True)
        excess = torch.where(inside, tensor, 0.0).sum(self.dim, keepdim=True) - total
        # NaN is kept, to be reported.
        outside = torch.where(tensor.isnan(), tensor, 0.0)
        return torch.where(inside, tensor - excess / number.clamp(min=1), outside)

    def check(self, where: str, tensor: Tensor, batch_dims: int) -> None:
        check_dims((self.dim,), where, tensor, batch_dims)
        if tensor.shape[self.dim] == 0:
            raise ValueError(
                f"{where}: shape {tuple(tensor.shape)}, should not be empty along axis {self.dim}, "
                "which sums to a total above 0"
            )
        check_per_problem("total", self.total, tensor, batch_dims)


class L2Ball(ConvexSet):
    """Vectors whose Euclidean norm is at most a radius.

    Args:
        radius: above 0: a number, or a tensor of shape () or one value per problem. Default 1.
        dim: the axis, or axes, of a vector, counted from the last one. Default -1.
    """

    def __init__(self, radius: float | Tensor = 1.0, dim: int | tuple[int, ...] = -1) -> None:
        check_values("radius", radius, "above 0", 0.0, above=True)
        self.radius = radius
        self.dims = negative_dims(dim)

    def project(self, tensor: Tensor, batch_dims: int) -> Tensor:
        radius = broadcast(self.radius, tensor, batch_dims)
        norm = length(tensor, self.dims)
        outside = norm > radius
        return torch.where(outside, radius / torch.where(outside, norm, 1.0), 1.0) * tensor

    def check(self, where: str, tensor: Tensor, batch_dims: int) -> None:
        check_dims(self.dims, where, tensor, batch_dims)
        check_per_problem("radius", self.radius, tensor, batch_dims)
