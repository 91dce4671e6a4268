"""Modules whose parameters are tracked over time, like `higher.patch`."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.compat.copies import Slots, clone, copy_module, fresh
from innerloop.compat.gradients import check_dense


class FunctionalModule(nn.Module):
    """A module whose parameters are replaced rather than changed, and remembered over time.

    `monkeypatch` makes one. It is an instance of the class of the original module: indexing,
    submodules, `state_dict` and your own methods all see the latest parameters.
    """

    _slots: Slots
    _fast_params: list[list[Tensor]]
    _tracked: bool

    def __call__(self, *args: Any, params: Iterable[Tensor] | None = None, **kwargs: Any) -> Any:
        """Call the module, with `params` as its latest parameters if given."""
        if params is not None:
            self.update_params(params)
        return super().__call__(*args, **kwargs)

    def forward(self, *args: Any, params: Iterable[Tensor] | None = None, **kwargs: Any) -> Any:
        """As a call, without hooks."""
        if params is not None:
            self.update_params(params)
        return super().forward(*args, **kwargs)

    def parameters(self, recurse: bool = True, time: int | None = None) -> Iterator[nn.Parameter]:
        """The parameters after a number of steps.

        Args:
            recurse: see `nn.Module.parameters`.
            time: 0 for the initial ones, -1 for the latest. Without track_higher_grads only the
                latest are kept, also as those at time 0. Default: the latest.

        Raises:
            IndexError: fewer steps were taken.
        """
        if time is None:
            return super().parameters(recurse)
        return iter(self._fast_params[time])  # type: ignore[arg-type]

    @property
    def fast_params(self) -> list[Tensor]:
        """The latest parameters."""
        return self._fast_params[-1]

    @fast_params.setter
    def fast_params(self, value: Iterable[Tensor]) -> None:
        self.update_params(value)

    @property
    def init_fast_params(self) -> list[Tensor]:
        """The parameters before the first step."""
        return list(self.parameters(time=0))

    @property
    def track_higher_grads(self) -> bool:
        """Whether parameters are remembered over time, and their gradients with them."""
        return self._tracked

    @track_higher_grads.setter
    def track_higher_grads(self, value: bool) -> None:
        self._tracked = value

    def update_params(self, params: Iterable[Tensor]) -> None:
        """Take the next parameters, ordered as `parameters()`."""
        latest = list(params)
        self._slots.fill(self, latest)
        self._fast_params = [*self._fast_params, latest] if self._tracked else [latest]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """An independent functional module that starts from the latest parameters."""
        original: type[nn.Module] = type(self).__mro__[2]
        plain = original.__new__(original)
        own = ("_slots", "_fast_params", "_tracked")
        plain.__dict__ = {key: value for key, value in self.__dict__.items() if key not in own}
        copied = copy_module(plain, fresh, fresh, memo)
        return _functional(copied, tracked=self._tracked)


_MonkeyPatchBase = FunctionalModule  # the name in higher, which public code checks instances for


def monkeypatch(
    module: nn.Module,
    device: torch.device | None = None,
    copy_initial_weights: bool = True,
    track_higher_grads: bool = True,
) -> Any:
    """A functional version of a module; the module itself never changes, buffers included.

    Args:
        module: the module to copy.
        device: device of the copy. Default: that of the module.
        copy_initial_weights: start from copies that are leaves; otherwise gradients reach the
            parameters of `module`, as MAML needs. Default True.
        track_higher_grads: keep the parameters of all steps, and the graph between them. Default
            True.

    Returns:
        A `FunctionalModule` that is also an instance of the module's class.

    Raises:
        ValueError: the module is functional already, or a parameter is sparse.
    """
    if isinstance(module, FunctionalModule):
        raise ValueError("module: is functional already, should be an ordinary module")
    check_dense(module.named_parameters())

    def moved(tensor: Tensor) -> Tensor:
        copied = fresh(tensor) if copy_initial_weights else clone(tensor)
        if device is None or copied.device == torch.device(device):
            return copied
        there = copied.to(device)
        return fresh(there) if copy_initial_weights else there

    def moved_buffer(tensor: Tensor) -> Tensor:
        return tensor.detach().clone().to(device or tensor.device)

    copied = copy_module(module, moved, moved_buffer)
    return _functional(copied, tracked=track_higher_grads)


def make_functional(
    module: nn.Module,
    encapsulator: Callable[[Any, nn.Module], None] | None = None,
) -> Any:
    """A functional version of a module that is given its parameters in every call.

    Args:
        module: the module to copy; not changed.
        encapsulator: called with the functional module and `module`. Default: nothing.

    Returns:
        A `FunctionalModule`. Until `params` are given it has copies of the module's own; in higher
        it has none.
    """
    functional = monkeypatch(module)
    if encapsulator is not None:
        encapsulator(functional, module)
    return functional


def buffer_sync(module: nn.Module, fmodule: nn.Module, device: torch.device | None = None) -> None:
    """Copy the module's buffers into its functional version."""
    with torch.no_grad():
        for ours, theirs in zip(fmodule.buffers(), module.buffers(), strict=True):
            ours.copy_(theirs if device is None else theirs.to(device))


def _functional(module: nn.Module, *, tracked: bool) -> Any:
    """Turn a module into a functional one, in place."""
    kind: Any = type(module)
    module.__class__ = _functional_class(kind)
    assert isinstance(module, FunctionalModule)
    module._slots = Slots(module)
    module._fast_params = [list(nn.Module.parameters(module))]
    module._tracked = tracked
    return module


@cache
def _functional_class(kind: Any) -> Any:
    return type(f"Functional{kind.__name__}", (FunctionalModule, kind), {})
