"""Update rules of `torch.optim` beyond those of `innerloop.solvers`."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.solvers import Adam, AdamW, GradientDescent, GradientMethod, RMSprop
from innerloop.solvers.adaptive.averages import average, average_square, smooth_sqrt
from innerloop.solvers.gradient import Hyperparameter
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


class DampenedDescent(GradientDescent):
    """Gradient descent with dampened momentum, as `torch.optim.SGD`.

    Args:
        rate, momentum, nesterov, weight_decay: see `GradientDescent`.
        dampening: share of each gradient after the first that the velocity leaves out.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        momentum: Hyperparameter,
        dampening: Hyperparameter,
        nesterov: bool = False,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
        self.dampening = dampening

    def memory(self, params: Tree) -> Tree:
        return None

    def update(self, gradient: Tensor, memory: Tensor | None, step: int) -> tuple[Tree, Tree]:
        share = 1 - self.dampening
        velocity = gradient if memory is None else self.momentum * memory + share * gradient
        ahead = gradient + self.momentum * velocity if self.nesterov else velocity
        return -ahead, velocity


class _MaxMoments(NamedTuple):
    mean: Tree
    square: Tree
    max_square: Tree


class AMSGrad(Adam):
    """Adam that divides by the max of the average squares so far.

    Source:
        Reddi et al., On the Convergence of Adam and Beyond, ICLR 2018, algorithm 2.
    """

    def memory(self, params: Tree) -> _MaxMoments:  # type: ignore[override]
        return _MaxMoments(*(trees.zeros_like(params) for _ in range(3)))

    def update(  # type: ignore[override]
        self, gradient: Tree, memory: _MaxMoments, step: int
    ) -> tuple[Tree, _MaxMoments]:
        mean = average(memory.mean, gradient, self.beta1)
        square = average_square(memory.square, gradient, self.beta2)
        max_square = trees.tree_map(torch.maximum, memory.max_square, square)
        first = 1 - self.beta1 ** (step + 1)
        second = (1 - self.beta2 ** (step + 1)) ** 0.5
        direction = trees.tree_map(
            lambda m, v: -(m / first) / (smooth_sqrt(v) / second + self.eps), mean, max_square
        )
        return direction, _MaxMoments(mean, square, max_square)


class AMSGradW(AdamW, AMSGrad):
    """AMSGrad with decoupled weight decay."""


class _Centred(NamedTuple):
    square: Tree
    velocity: Tree
    mean: Tree


class CentredRMSprop(RMSprop):
    """RMSprop that divides by the standard deviation of the gradient.

    Source:
        Graves, Generating Sequences With Recurrent Neural Networks, 2013, eq. 38.
    """

    def memory(self, params: Tree) -> _Centred:  # type: ignore[override]
        return _Centred(*(trees.zeros_like(params) for _ in range(3)))

    def update(  # type: ignore[override]
        self, gradient: Tree, memory: _Centred, step: int
    ) -> tuple[Tree, _Centred]:
        square = average_square(memory.square, gradient, self.alpha)
        mean = average(memory.mean, gradient, self.alpha)
        velocity = trees.tree_map(
            lambda u, g, v, m: self.momentum * u + g / (smooth_sqrt(v - m.square()) + self.eps),
            memory.velocity,
            gradient,
            square,
            mean,
        )
        return trees.negative(velocity), _Centred(square, velocity, mean)


class _Deltas(NamedTuple):
    square: Tree
    change: Tree


class Adadelta(GradientMethod):
    """Adadelta, as `torch.optim.Adadelta`.

    Args:
        rate: multiple of the step. Default 1.
        rho: factor of the averages of squares. Default 0.9.
        eps: added to squares. Default 1e-6.
        weight_decay: multiple of the parameters that is added to the gradient. Default 0.

    Source:
        Zeiler, ADADELTA: An Adaptive Learning Rate Method, 2012, algorithm 1.
    """

    def __init__(
        self,
        rate: Rate = 1.0,
        *,
        rho: Hyperparameter = 0.9,
        eps: Hyperparameter = 1e-6,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, weight_decay)
        self.rho = rho
        self.eps = eps

    def memory(self, params: Tree) -> _Deltas:
        return _Deltas(trees.zeros_like(params), trees.zeros_like(params))

    def update(self, gradient: Tree, memory: _Deltas, step: int) -> tuple[Tree, _Deltas]:
        square = average_square(memory.square, gradient, self.rho)
        change = trees.tree_map(
            lambda g, v, c: g * (smooth_sqrt(c + self.eps) / smooth_sqrt(v + self.eps)),
            gradient,
            square,
            memory.change,
        )
        return trees.negative(change), _Deltas(
            square, average_square(memory.change, change, self.rho)
        )


class _Largest(NamedTuple):
    mean: Tree
    largest: Tree


class Adamax(GradientMethod):
    """Adam with the max gradient so far in place of the average square.

    Args:
        rate: step length. Default 0.002.
        beta1, beta2: factors of the average, and of the max gradient. Default 0.9, 0.999.
        eps: added to the absolute gradient. Default 1e-8.
        weight_decay: multiple of the parameters that is added to the gradient. Default 0.

    Source:
        Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 2.
    """

    def __init__(
        self,
        rate: Rate = 2e-3,
        *,
        beta1: Hyperparameter = 0.9,
        beta2: Hyperparameter = 0.999,
        eps: Hyperparameter = 1e-8,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, weight_decay)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def memory(self, params: Tree) -> _Largest:
        return _Largest(trees.zeros_like(params), trees.zeros_like(params))

    def update(self, gradient: Tree, memory: _Largest, step: int) -> tuple[Tree, _Largest]:
        mean = average(memory.mean, gradient, self.beta1)
        largest = trees.tree_map(
            lambda u, g: torch.maximum(self.beta2 * u, g.abs() + self.eps),
            memory.largest,
            gradient,
        )
        correction = 1 - self.beta1 ** (step + 1)
        direction = trees.tree_map(lambda m, u: -m / (correction * u), mean, largest)
        return direction, _Largest(mean, largest)


class _Signs(NamedTuple):
    previous: Tree
    size: Tree


class Rprop(GradientMethod):
    """Resilient backpropagation, as `torch.optim.Rprop`: the signs of gradients set the steps.

    Args:
        rate: length of the first step. Default 0.01.
        shrink, grow: factors where the sign of the gradient changed, and where it did not.
            Default 0.5, 1.2.
        min_step, max_step: bounds of the step length. Default 1e-6, 50.

    Source:
        Riedmiller and Braun, A Direct Adaptive Method for Faster Backpropagation Learning, 1993.
    """

    def __init__(
        self,
        rate: Hyperparameter = 0.01,
        *,
        shrink: Hyperparameter = 0.5,
        grow: Hyperparameter = 1.2,
        min_step: Hyperparameter = 1e-6,
        max_step: Hyperparameter = 50.0,
    ) -> None:
        super().__init__(rate)
        self.first = rate
        self.shrink = shrink
        self.grow = grow
        self.min_step = min_step
        self.max_step = max_step

    def memory(self, params: Tree) -> _Signs:
        first = trees.tree_map(lambda p: torch.ones_like(p) * self.first, params)
        return _Signs(trees.zeros_like(params), first)

    def update(self, gradient: Tensor, memory: _Signs, step: int) -> tuple[Tree, _Signs]:
        sign = (gradient * memory.previous).sign()
        kept_or_shrunk = torch.where(sign < 0, self.shrink, torch.ones_like(gradient))
        size = torch.clamp(
            memory.size * torch.where(sign > 0, self.grow, kept_or_shrunk),
            torch.as_tensor(self.min_step, dtype=gradient.dtype, device=gradient.device),
            torch.as_tensor(self.max_step, dtype=gradient.dtype, device=gradient.device),
        )
        kept = torch.where(sign < 0, 0.0, gradient)
        return -kept.sign() * size, _Signs(kept, size)
