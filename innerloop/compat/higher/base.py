"""The common part of all differentiable optimizers."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop.compat.gradients import check_dense, gradients
from innerloop.compat.higher.patch import FunctionalModule

Override = dict[str, list[Any]]
Gradients = list[Tensor | None]
GradCallback = Callable[[Gradients], Sequence[Tensor | None]]


class DifferentiableOptimizer(ABC):
    """An optimizer whose steps return new parameters and can be differentiated.

    Subclasses implement `_update`; `register_optim` makes them known.

    Args:
        other: the optimizer whose settings and state are copied; not changed.
        reference_params: parameters of the original model, in order.
        fmodel: functional module whose parameters `step` replaces. Default: none, `step` needs
            `params`.
        device: device of the state. Default: unchanged.
        override: settings by name: a list of one value, or one per parameter group. Tensors
            receive the outer gradient.
        grad_callback: maps the list of gradients (None where the loss does not depend on a
            parameter) to the list used in their place. Default: nothing.
        track_higher_grads: keep the graph through the steps. Without it no gradient reaches the
            initial parameters. Default True.

    Attributes:
        param_groups: settings and latest parameters, as of `torch.optim`.
        state: for every group, the state of each of its parameters, by position.

    Raises:
        ValueError: a parameter of the optimizer is sparse, or not among the reference parameters.
        TypeError, ValueError: `override` does not fit the settings.
    """

    def __init__(
        self,
        other: torch.optim.Optimizer,
        reference_params: Iterable[Tensor],
        fmodel: FunctionalModule | None = None,
        device: torch.device | None = None,
        override: Override | None = None,
        grad_callback: GradCallback | None = None,
        track_higher_grads: bool = True,
    ) -> None:
        reference = list(reference_params)
        check_dense((f"reference_params[{index}]", param) for index, param in enumerate(reference))
        order = {id(param): index for index, param in enumerate(reference)}
        self.param_groups: list[dict[str, Any]] = []
        self.state: list[defaultdict[int, dict[str, Any]]] = []
        self._order: list[list[int]] = []
        self._fmodel = fmodel
        self._grad_callback = grad_callback
        self._track_higher_grads = track_higher_grads
        for group in other.param_groups:
            for param in group["params"]:
                if id(param) not in order:
                    raise ValueError(
                        f"opt: a parameter of shape {tuple(param.shape)} is not among the "
                        "parameters of the model"
                    )
            self._order.append([order[id(param)] for param in group["params"]])
            self.param_groups.append({**group, "params": list(group["params"])})
            states: defaultdict[int, dict[str, Any]] = defaultdict(dict)
            for place, param in enumerate(group["params"]):
                states[place] = _copy(dict(other.state.get(param, {})), device)
            self.state.append(states)
        self._apply(override)

    def step(
        self,
        loss: Tensor,
        params: Iterable[Tensor] | None = None,
        override: Override | None = None,
        grad_callback: GradCallback | None = None,
        **kwargs: Any,
    ) -> list[Tensor]:
        """Take one step down the gradient of a loss.

        Args:
            loss: scalar, computed from the latest parameters.
            params: the parameters that `loss` was computed from. Default: those of the functional
                module.
            override: settings from this step on; see the class.
            grad_callback: replaces the callback of the class in this step.
            kwargs: handed to `_update`.

        Returns:
            The next parameters, which the functional module has, too.

        Raises:
            ValueError: there is neither a functional module nor `params`.
        """
        self._apply(override)
        if params is not None:
            before = list(params)
            if self._fmodel is not None:
                self._fmodel.update_params(before)
        elif self._fmodel is not None:
            before = list(self._fmodel.fast_params)
        else:
            raise ValueError("params: should be given to an optimizer that has no fmodel")

        found = self._gradients(loss, before, grad_callback or self._grad_callback)
        for group, order in zip(self.param_groups, self._order, strict=True):
            group["params"] = [before[index] for index in order]
        with nullcontext() if self._track_higher_grads else torch.no_grad():
            self._update([[found[index] for index in order] for order in self._order], **kwargs)

        after = list(before)
        for group, order in zip(self.param_groups, self._order, strict=True):
            for index, param in zip(order, group["params"], strict=True):
                after[index] = param
        if not self._track_higher_grads:
            after = [
                new.detach().requires_grad_(old.requires_grad)
                for new, old in zip(after, before, strict=True)
            ]
        if self._fmodel is not None:
            self._fmodel.update_params(after)
        return after

    @abstractmethod
    def _update(self, grouped_grads: list[Gradients], **kwargs: Any) -> None:
        """Replace the entries of `group["params"]` by the next parameters, without in-place ops.

        Args:
            grouped_grads: gradients of every group's parameters, None where there is none.
            kwargs: further arguments that `step` was given.
        """

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, as `torch.optim.Optimizer.load_state_dict` takes them."""
        index, state, groups = 0, {}, []
        for group, states in zip(self.param_groups, self.state, strict=True):
            for place in range(len(group["params"])):
                if states[place]:
                    state[index + place] = _copy(states[place], None)
            count = len(group["params"])
            settings = _copy({**group, "params": None}, None)
            groups.append({**settings, "params": list(range(index, index + count))})
            index += count
        return {"state": state, "param_groups": groups}

    def _gradients(
        self, loss: Tensor, params: list[Tensor], callback: GradCallback | None
    ) -> Sequence[Tensor | None]:
        found = gradients(loss, params, create_graph=self._track_higher_grads, allow_unused=True)
        return found if callback is None else callback(found)

    def _apply(self, override: Override | None) -> None:
        groups = self.param_groups
        for name, values in (override or {}).items():
            if not isinstance(values, list | tuple):
                raise TypeError(
                    f"override[{name!r}]: {type(values).__name__}, should be a list of values"
                )
            if len(values) not in (1, len(groups)):
                raise ValueError(
                    f"override[{name!r}]: {len(values)} values, should be 1 or one for each of "
                    f"the {len(groups)} parameter groups"
                )
            for index, group in enumerate(groups):
                if name not in group:
                    raise ValueError(
                        f"override: {name!r} is not a setting of the optimizer; it has "
                        f"{', '.join(key for key in group if key != 'params')}"
                    )
                group[name] = values[index if len(values) > 1 else 0]


def _copy(state: dict[str, Any], device: torch.device | None) -> dict[str, Any]:
    def own(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.detach().clone().to(device or value.device)

    copied: dict[str, Any] = trees.tree_map(own, state)
    return copied
