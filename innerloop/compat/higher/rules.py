"""Differentiable versions of the optimizers of `torch.optim`, each with a solver's update rule."""

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from innerloop import trees
from innerloop.compat.gradients import of_dense
from innerloop.compat.higher.base import DifferentiableOptimizer, Gradients
from innerloop.compat.higher.updates import (
    Adadelta,
    Adamax,
    AMSGrad,
    AMSGradW,
    CentredRMSprop,
    DampenedDescent,
    Rprop,
)
from innerloop.solvers import Adagrad, Adam, AdamW, GradientDescent, GradientMethod, RMSprop

Group = dict[str, Any]


class SolverOptimizer(DifferentiableOptimizer):
    """A differentiable optimizer whose rule is that of a solver."""

    _names: ClassVar[tuple[str, ...]]
    """The names in torch.optim of the entries of the solver's memory."""

    @abstractmethod
    def _solver(self, group: Group, step: int) -> GradientMethod:
        """The solver of a step, counted from 0, with the settings of a group."""

    def _rate(self, group: Group, step: int) -> Any:
        """Multiple of the solver's direction in a step, counted from 0."""
        return group["lr"]

    def _update(self, grouped_grads: list[Gradients], **kwargs: Any) -> None:
        for index, (group, gradients) in enumerate(
            zip(self.param_groups, grouped_grads, strict=True)
        ):
            for place, (param, gradient) in enumerate(zip(group["params"], gradients, strict=True)):
                if gradient is None:
                    continue
                rule = partial(self._change, group, self.state[index][place], param)
                group["params"][place] = param + of_dense(rule, gradient)

    def _change(self, group: Group, state: dict[str, Any], param: Tensor, gradient: Tensor) -> Any:
        """The change of a parameter in a step; the state is updated."""
        step = int(state.get("step", 0))
        solver = self._solver(group, step)
        # Without higher gradients the whole direction is a constant, including weight decay.
        at = _real(param if self._track_higher_grads else param.detach())
        first, spec = trees.flatten(solver.memory(at))
        memory = [
            start if state.get(name) is None else _real(state[name])
            for name, start in zip(self._names, first, strict=True)
        ]
        direction, after = solver.direction(
            _UNSEEN,
            at,
            _real(-gradient if group.get("maximize") else gradient),
            trees.unflatten(memory, spec),
            step,
        )
        remembered = [leaf if leaf is None else _as(param, leaf) for leaf in trees.leaves(after)]
        state.update(zip(self._names, remembered, strict=True), step=step + 1)
        return self._rate(group, step) * _as(param, direction)


_UNSEEN: Any = None  # gradient methods use only the gradient of the problem


def _real(tensor: Tensor) -> Tensor:
    """The tensor; the parts of a complex one are two real entries, as in torch.optim."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _as(param: Tensor, real: Tensor) -> Tensor:
    return torch.complex(*real.unbind(-1)) if param.is_complex() else real


class DifferentiableSGD(SolverOptimizer):
    """`torch.optim.SGD`, differentiable."""

    _names = ("momentum_buffer",)

    def _solver(self, group: Group, step: int) -> GradientMethod:
        settings = {name: group[name] for name in ("momentum", "nesterov", "weight_decay")}
        dampening = group["dampening"]
        if isinstance(dampening, torch.Tensor) or dampening != 0:
            return DampenedDescent(group["lr"], dampening=dampening, **settings)
        return GradientDescent(group["lr"], **settings)


class DifferentiableAdam(SolverOptimizer):
    """`torch.optim.Adam`, differentiable also where gradients are zero.

    As in higher, eps is added to the root of the average square before its correction, which in
    step t makes it torch's eps / √(1 − β₂ᵗ). `innerloop.Adam` and `DifferentiableAdamW` take the
    steps of torch.optim itself.
    """

    @property
    def _names(self) -> tuple[str, ...]:  # type: ignore[override]
        amsgrad = any(group["amsgrad"] for group in self.param_groups)
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if amsgrad else ()))

    def _solver(self, group: Group, step: int) -> GradientMethod:
        kind = AMSGrad if group["amsgrad"] else Adam
        eps = group["eps"] / (1 - group["betas"][1] ** (step + 1)) ** 0.5
        return self._adam(kind, group, eps)

    def _adam(self, kind: type[Adam], group: Group, eps: Any) -> GradientMethod:
        beta1, beta2 = group["betas"]
        return kind(
            group["lr"], beta1=beta1, beta2=beta2, eps=eps, weight_decay=group["weight_decay"]
        )


class DifferentiableAdamW(DifferentiableAdam):
    """`torch.optim.AdamW`, differentiable."""

    def _solver(self, group: Group, step: int) -> GradientMethod:
        return self._adam(AMSGradW if group["amsgrad"] else AdamW, group, group["eps"])


class DifferentiableRMSprop(SolverOptimizer):
    """`torch.optim.RMSprop`, differentiable also where gradients are zero.

    In higher, the gradient through the centred form is NaN there.
    """

    @property
    def _names(self) -> tuple[str, ...]:  # type: ignore[override]
        centred = any(group["centered"] for group in self.param_groups)
        return ("square_avg", "momentum_buffer", *(("grad_avg",) if centred else ()))

    def _solver(self, group: Group, step: int) -> GradientMethod:
        kind = CentredRMSprop if group["centered"] else RMSprop
        names = ("alpha", "eps", "momentum", "weight_decay")
        return kind(group["lr"], **{name: group[name] for name in names})


class DifferentiableAdagrad(SolverOptimizer):
    """`torch.optim.Adagrad`, differentiable."""

    _names = ("sum",)

    def _solver(self, group: Group, step: int) -> GradientMethod:
        return Adagrad(group["lr"], eps=group["eps"], weight_decay=group["weight_decay"])

    def _rate(self, group: Group, step: int) -> Any:
        return group["lr"] / (1 + step * group["lr_decay"])


class DifferentiableAdadelta(SolverOptimizer):
    """`torch.optim.Adadelta`, differentiable."""

    _names = ("square_avg", "acc_delta")

    def _solver(self, group: Group, step: int) -> GradientMethod:
        names = ("rho", "eps", "weight_decay")
        return Adadelta(group["lr"], **{name: group[name] for name in names})


class DifferentiableAdamax(SolverOptimizer):
    """`torch.optim.Adamax`, differentiable."""

    _names = ("exp_avg", "exp_inf")

    def _solver(self, group: Group, step: int) -> GradientMethod:
        beta1, beta2 = group["betas"]
        return Adamax(
            group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )


class DifferentiableRprop(SolverOptimizer):
    """`torch.optim.Rprop`, differentiable where the signs of gradients do not change."""

    _names = ("prev", "step_size")

    def _solver(self, group: Group, step: int) -> GradientMethod:
        shrink, grow = group["etas"]
        min_step, max_step = group["step_sizes"]
        return Rprop(group["lr"], shrink=shrink, grow=grow, min_step=min_step, max_step=max_step)

    def _rate(self, group: Group, step: int) -> Any:
        return 1.0  # the sizes of the steps are in their directions


class DifferentiableASGD(SolverOptimizer):
    """`torch.optim.ASGD`, differentiable; its steps, without the average of their results."""

    _names = ("momentum_buffer",)

    def _solver(self, group: Group, step: int) -> GradientMethod:
        return GradientDescent(group["lr"], weight_decay=group["weight_decay"] + group["lambd"])

    def _rate(self, group: Group, step: int) -> Any:
        return group["lr"] / (1 + group["lambd"] * group["lr"] * step) ** group["alpha"]
