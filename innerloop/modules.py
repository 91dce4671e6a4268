"""Adapting an `nn.Module`: which parameters, with which statistics, without changing the module."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from threading import current_thread, get_ident, main_thread
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedTensorMixin

from innerloop import trees
from innerloop.adjoints import Adjoint
from innerloop.autodiff import transforming
from innerloop.compiled import CompiledObjective, compiled_call, compiled_value_and_gradient
from innerloop.copies import clone, copy_with
from innerloop.normalization import use_batch_statistics
from innerloop.problems import Objective
from innerloop.solve import Solution, solve
from innerloop.solvers.base import Solver

Selection: TypeAlias = str | Iterable[str] | Callable[[str, nn.Parameter], bool]
BufferPolicy: TypeAlias = Literal["frozen", "per_task", "batch_statistics"]
Model: TypeAlias = Callable[..., Any]
Made = TypeVar("Made")


class Adapted:
    """A module with values of its own for some parameters; the module itself never changes.

    It is called as the module is. `adapt` returns a further adapted one, `state_dict` what the
    module's class can load.

    Args:
        module: supplies the computation and the values to start from. Gradients reach its
            parameters, those that adapt (through where they start) and those that do not.
        parameters: which parameters adapt: names, or patterns such as "head.*", or a function of
            name and parameter. Default: all that require a gradient.
        buffers: statistics of BatchNorm. "frozen" (the default) normalises with the module's
            running statistics throughout; "batch_statistics" with those of the batch at hand;
            "per_task" with those of the batch while adapting, and from then on with those that the
            adapted module has on the batches of the loss, as constants. All other buffers start
            every call as they are in the module.

    Attributes:
        values: the adapting parameters by name.
        solution: what the last `adapt` reached, or None.

    Raises:
        ValueError: a pattern matches no parameter, or the policy is unknown.
    """

    def __init__(
        self,
        module: nn.Module,
        parameters: Selection | None = None,
        buffers: BufferPolicy = "frozen",
    ) -> None:
        if buffers not in ("frozen", "per_task", "batch_statistics"):
            raise ValueError(
                f"buffers: {buffers!r}, should be 'frozen', 'per_task' or 'batch_statistics'"
            )
        self.module = module
        self.solution: Solution | None = None
        self._policy = buffers
        self.values: dict[str, Tensor] = _select(module, parameters)
        self._others: dict[str, Tensor] = {}
        self._statistics: dict[str, Tensor] = {}
        # Made when first needed, shared by copies.
        self._skeletons: dict[tuple[int, bool], nn.Module] = {}
        self._compiled: dict[Callable[..., Any], Any] = {}  # so is this
        self._compile = False
        self._tied = _shares_parameters(module)

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles hold values without their graph, and compile for themselves.
        state = {**self.__dict__, "_skeletons": {}, "_compiled": {}}
        for name in ("values", "_others"):
            state[name] = {key: value.detach() for key, value in state[name].items()}
        if self.solution is not None:
            prediction = self.solution.prediction
            state["solution"] = replace(
                self.solution,
                value=trees.detach(self.solution.value),
                prediction=None if prediction is None else prediction.detach(),
            )
        return state

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch_statistics = self._policy == "batch_statistics"
        if not self._compile and not torch.compiler.is_compiling():
            return self._filled(self.values, batch_statistics)(*args, **kwargs)
        skeleton = self._skeleton(batch_statistics=batch_statistics)
        if self._compile and not transforming():
            run = self._made_once(compiled_call)
            return run(self._run, skeleton, self.values, args, kwargs)
        return self._run(skeleton, self.values, args, kwargs)

    def adapt(
        self,
        loss: Callable[[Model], Tensor],
        solver: Solver,
        *,
        init: Mapping[str, Tensor] | None = None,
        steps: int = 1,
        adjoint: Adjoint | None = None,
        tolerance: float = 0.0,
        throw: bool = True,
        compile: bool = False,
    ) -> "Adapted":
        """Minimise a loss of the model, starting from the values that this one has.

        Args:
            loss: maps the model to a scalar. The model is a copy of the module, of its class, whose
                parameters are the adapting values: its methods, submodules and `parameters()` are
                those of any module. It is a new one each time that the loss is computed. With
                `compile`, it is a function that is called as the module is.
            solver: how the loss is minimised.
            init: tensors to take in place of any parameters, adapting or not, by name. Default:
                none.
            steps, adjoint, tolerance, throw: as of `solve`.
            compile: compute gradients of the loss, and calls of the adapted model, by compiled
                functions, which are made once for all steps, and for all tasks that run the same
                code on tensors of the same shapes; they are kept with this model. The gradient
                through the steps then takes about half of the memory. Worth it where a training
                lasts minutes. On a processor, equal greatest values of a pooling window share its
                gradient. Default False.

        Returns:
            The adapted model; this one stays as it is.

        Raises:
            ValueError: `init` names no parameter of the module, or has a tensor of another shape,
                dtype or device, or two for one parameter.
            torch._dynamo.exc.Unsupported: `compile` is set, and the loss does what cannot be
                compiled, such as branching on a tensor's value; the message names the line.
        """
        # Not `copy.copy`, which leaves out what was compiled, and the graph of the values.
        adapted = object.__new__(type(self))
        adapted.__dict__.update(self.__dict__)
        adapted._replace(init or {})
        adapted._compile = compile
        batch_statistics = self._policy != "frozen"
        functional = compile or torch.compiler.is_compiling()
        skeleton = self._skeleton(batch_statistics=batch_statistics) if functional else None

        def model(values: dict[str, Tensor]) -> Model:
            if skeleton is None:
                return adapted._filled(values, batch_statistics)
            return lambda *args, **kwargs: adapted._run(skeleton, values, args, kwargs)

        def values_loss(values: dict[str, Tensor]) -> Tensor:
            return loss(model(values))

        adapted.solution = solve(
            CompiledObjective(values_loss, self._made_once(compiled_value_and_gradient))
            if compile
            else Objective(values_loss),
            adapted.values,
            solver,
            steps=steps,
            adjoint=adjoint,
            tolerance=tolerance,
            throw=throw,
        )
        adapted.values = adapted.solution.value
        if self._policy == "per_task":
            recorded = adapted._filled(adapted.values, batch_statistics)
            with _recorded_statistics(recorded) as statistics:
                loss(recorded)
            adapted._statistics = statistics
        return adapted

    def state_dict(self) -> dict[str, Any]:
        """Values and buffers, detached copies, as the module's `load_state_dict` takes them."""
        state = self.module.state_dict()
        own = {**self._others, **self.values, **self._statistics}
        for name, first in _first_names(self.module).items():
            if first in own and name in state:
                state[name] = own[first]
        return {
            name: value.detach().clone() if isinstance(value, Tensor) else value
            for name, value in state.items()
        }

    def _replace(self, tensors: Mapping[str, Tensor]) -> None:
        tensors = _checked_init(self.module, tensors)
        self.values = {name: tensors.get(name, value) for name, value in self.values.items()}
        rest = {name: value for name, value in tensors.items() if name not in self.values}
        self._others = {**self._others, **rest}

    def _skeleton(self, *, batch_statistics: bool) -> nn.Module:
        # One a thread, as a module is changed while it is called with other tensors.
        key = (get_ident(), batch_statistics)
        if key not in self._skeletons:
            self._skeletons[key] = _skeleton(self.module, batch_statistics)
        return self._skeletons[key]

    def _filled(self, values: Mapping[str, Tensor], batch_statistics: bool) -> nn.Module:
        """A copy of the module whose tensors are the values; nothing done to it reaches others."""
        own = {**self._others, **values}
        tensors: dict[int, Any] = {}
        for name, parameter in self.module.named_parameters():
            tensors[id(parameter)] = own[name] if name in own else parameter.view_as(parameter)
        for name, buffer in self.module.named_buffers():
            # Copies: a layer may change its buffers in place.
            tensors[id(buffer)] = self._statistics.get(name, buffer).clone()
        filled = copy_with(self.module, tensors, clone)
        _set_statistics(filled, batch_statistics)
        return filled

    def _made_once(self, make: Callable[[], Made]) -> Made:
        made: Made = self._compiled.setdefault(make, make())  # at once, as threads may meet here
        return made

    def _run(
        self, skeleton: nn.Module, values: Mapping[str, Tensor], args: Any, kwargs: Any
    ) -> Any:
        # Copies: a layer may change its buffers in place.
        buffers = {name: buffer.clone() for name, buffer in skeleton.named_buffers()}
        buffers.update({k: v for k, v in self._statistics.items() if k in buffers})
        tensors = {**buffers, **self._others, **values}
        return functional_call(skeleton, tensors, args, kwargs, tie_weights=self._tied)


def adapt(
    module: nn.Module | Adapted,
    loss: Callable[[Model], Tensor],
    solver: Solver,
    *,
    parameters: Selection | None = None,
    buffers: BufferPolicy = "frozen",
    init: Mapping[str, Tensor] | None = None,
    steps: int = 1,
    adjoint: Adjoint | None = None,
    tolerance: float = 0.0,
    throw: bool = True,
    compile: bool = False,
) -> Adapted:
    """Adapt a module to a loss; the module handed in never changes.

    Args:
        module: what to adapt; an `Adapted` one keeps adapting, with its choices of parameters and
            buffers.
        loss: maps the model, a callable like the module, to a scalar, for example
            `lambda model: F.cross_entropy(model(images), labels)`.
        solver: how the loss is minimised.
        parameters, buffers: as of `Adapted`.
        init, steps, adjoint, tolerance, throw, compile: as of `Adapted.adapt`; compiling pays for
            an `Adapted` module that is adapted many times.

    Returns:
        The adapted model.
    """
    if not isinstance(module, Adapted):
        module = Adapted(module, parameters, buffers)
    elif parameters is not None:
        raise ValueError("parameters: are chosen once, when a module is first adapted")
    return module.adapt(
        loss,
        solver,
        init=init,
        steps=steps,
        adjoint=adjoint,
        tolerance=tolerance,
        throw=throw,
        compile=compile,
    )


def _first_names(module: nn.Module) -> dict[str, str]:
    """The first name of what is known by each name, parameters and buffers."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(tensor), name)
        for tensors in (module.named_parameters, module.named_buffers)
        for name, tensor in tensors(remove_duplicate=False)
    }


def _check_initialised(module: nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if isinstance(tensor, UninitializedTensorMixin):
            raise ValueError(
                f"module: {name!r} has no shape yet; call the module once first, so that its lazy "
                "layers find theirs"
            )


def _checked_init(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the first names of the parameters that they fit."""
    known, first = dict(module.named_parameters()), _first_names(module)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if first.get(name) not in known:
            raise ValueError(f"init: {name!r} is no parameter of the module")
        parameter = known[first[name]]
        for what in ("shape", "dtype", "device"):
            given, right = getattr(tensor, what), getattr(parameter, what)
            if given != right:
                if what == "shape":
                    given, right = tuple(given), tuple(right)
                raise ValueError(f"init: {name!r} has the {what} {given}, should have {right}")
        if found.setdefault(first[name], tensor) is not tensor:
            raise ValueError(
                f"init: {name!r} is {first[name]!r} by another name, should be the same tensor"
            )
    return found


def _select(module: nn.Module, selection: Selection | None) -> dict[str, Tensor]:
    _check_initialised(module)
    named = dict(module.named_parameters())
    first = {name: one for name, one in _first_names(module).items() if one in named}
    if selection is None:
        chosen = {name for name, value in named.items() if value.requires_grad}
    elif callable(selection):
        chosen = {one for name, one in first.items() if selection(name, named[one])}
    else:
        chosen = set()
        for pattern in [selection] if isinstance(selection, str) else list(selection):
            matches = {one for name, one in first.items() if fnmatchcase(name, pattern)}
            if not matches:
                raise ValueError(
                    f"parameters: {pattern!r} matches none of the module's parameters: "
                    f"{', '.join(named)}"
                )
            chosen |= matches
    if not chosen:
        raise ValueError("parameters: none is selected, should be at least one")
    return {name: value for name, value in named.items() if name in chosen}


def _shares_parameters(module: nn.Module) -> bool:
    """Whether a parameter has more than one name; looking for those takes long in every call."""
    return any(
        len(list(tensors(remove_duplicate=False))) > len(list(tensors()))
        for tensors in (module.named_parameters, module.named_buffers)
    )


def _skeleton(module: nn.Module, batch_statistics: bool) -> nn.Module:
    """The module, or a copy that shares its tensors, its BatchNorm using one kind of statistics."""
    normalised = any(isinstance(layer, _BatchNorm) for layer in module.modules())
    if not normalised and current_thread() is main_thread():
        return module
    shared: dict[int, Any] = {id(t): t for t in (*module.parameters(), *module.buffers())}
    skeleton = copy_with(module, shared, clone)
    _set_statistics(skeleton, batch_statistics)
    return skeleton


def _set_statistics(copied: nn.Module, batch_statistics: bool) -> None:
    """Let the BatchNorm layers of a copy use one kind of statistics."""
    for layer in copied.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
            if batch_statistics or layer.running_mean is None:
                use_batch_statistics(layer)


@contextmanager
def _recorded_statistics(skeleton: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect mean and variance of what enters each BatchNorm, averaged over its calls."""
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
        if isinstance(layer, _BatchNorm)
    ]
    try:
        yield statistics
    finally:
        for handle in handles:
            handle.remove()
