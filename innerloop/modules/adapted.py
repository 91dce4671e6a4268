"""Adapting an `nn.Module`: which parameters, with which statistics, without changing the module."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import current_thread, main_thread
from typing import Any, Literal, TypeAlias, TypeVar, Unpack

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop._torch import BatchNorm
from innerloop.compile.functions import (
    CompiledObjective,
    compiled_call,
    compiled_value_and_gradient,
)
from innerloop.modules.copies import Template, clone, detached_copy
from innerloop.modules.normalization import recorded_statistics, with_statistics
from innerloop.modules.selection import Selection, first_names, fitting, select
from innerloop.problems import MiniBatches, Objective, Problem
from innerloop.solvers.base import Solver
from innerloop.solving import Solution, SolveOptions, solve

BufferPolicy: TypeAlias = Literal["frozen", "per_task", "batch_statistics"]
Model: TypeAlias = Callable[..., Any]
Made = TypeVar("Made")


class Adapted:
    """A module with its own values for some parameters; the original module never changes.

    It is called like the module. `adapt` returns a further adapted one; `state_dict` returns what
    the module's class can load. Both see later changes of the module: other layers, other
    parameters, or which of them require a gradient.

    Args:
        module: supplies the computation and the values to start from. Gradients reach its
            parameters: those that adapt (through their initial values) and those that do not.
        parameters: which parameters adapt: names, or patterns such as "head.*", or a function of
            name and parameter. Default: all that require a gradient.
        buffers: statistics of BatchNorm. "frozen" (the default) normalises with the module's
            running statistics throughout; "batch_statistics" with those of the batch at hand;
            "per_task" with those of the batch while adapting, and from then on with those that the
            adapted module has on the batches of the loss, as constants. All other buffers start
            every call as they are in the module.

    Attributes:
        values: the adapting parameters by name; those of the module, until they are adapted.
        solution: solution of the last `adapt`, or None.

    Raises:
        ValueError: a pattern matches no parameter, or the policy is unknown; later on, adapted
            values no longer fit the module, as a layer of another shape has taken their place.
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
        if not (parameters is None or isinstance(parameters, str) or callable(parameters)):
            parameters = list(parameters)
        self.module = module
        self.solution: Solution | None = None
        self._selection, self._policy = parameters, buffers
        self._adapted: dict[str, Tensor] | None = None
        self._others: dict[str, Tensor] = {}
        self._statistics: dict[str, Tensor] = {}
        self._compiled: dict[Callable[..., Any], Any] = {}  # made when needed, shared by copies
        self._compile = False
        select(module, self._selection)

    @property
    def values(self) -> dict[str, Tensor]:
        """The adapting parameters by name."""
        if self._adapted is None:
            return {**select(self.module, self._selection), **self._others}
        return self._adapted

    @values.setter
    def values(self, values: dict[str, Tensor]) -> None:
        self._adapted = values

    def __copy__(self) -> "Adapted":
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> "Adapted":
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        # Other than `copy.deepcopy`, it copies modules that hold results of computations.
        memo[id(self.module)] = detached_copy(self.module, memo)
        copied.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # Deep copies and pickles hold values without their graph, and compile again.
        state = {**self.__dict__, "_compiled": {}}
        for name in ("_adapted", "_others"):
            state[name] = trees.detach(state[name]) if state[name] else state[name]
        if self.solution is not None:
            state["solution"] = self.solution.detach()
        return state

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch_statistics = self._policy == "batch_statistics"
        own = self._own()
        if not self._compile and not torch.compiler.is_compiling():
            return self._filled(_template(self.module, batch_statistics), own)(*args, **kwargs)
        skeleton = _skeleton(self.module, batch_statistics)
        if self._compile and not transforming():
            run = self._made_once(compiled_call)
            return run(self._run, skeleton, own, args, kwargs)
        return self._run(skeleton, own, args, kwargs)

    def adapt(
        self,
        loss: Callable[..., Any],
        solver: Solver,
        *,
        batches: Sequence[Any] | None = None,
        accumulate: int = 1,
        has_aux: bool = False,
        init: Mapping[str, Tensor] | None = None,
        compile: bool = False,
        **options: Unpack[SolveOptions],
    ) -> "Adapted":
        """Minimise a loss of the model, starting from its present values.

        Args:
            loss: maps the model to a scalar. The model is a copy of the module, of its class, whose
                parameters are the adapting values: its methods, submodules and `parameters()` are
                those of any module. It is a new copy each time that the loss is computed; of the
                changes that the loss makes in it, only new values of adapting parameters reach the
                next step. With `compile`, it is a function that is called like the module.
            solver: how the loss is minimised.
            batches: of data, as of `MiniBatches`; `loss` then maps the model and a batch to a
                scalar, and each step sees the next of them. Default: none.
            accumulate: batches that a step sees. Default 1.
            has_aux: `loss` returns a pair of the scalar and anything else, such as predictions;
                `solution.aux` is what it returns of the adapted model, see `Objective` and
                `MiniBatches`. Default False.
            init: tensors to take in place of any parameters, adapting or not, by name. Default:
                none.
            compile: compute gradients of the loss, and calls of the adapted model, by compiled
                functions, which are made once for all steps, and for all tasks that run the same
                code on tensors of the same shapes; they are kept with this model. The gradient
                through the steps then takes about half of the memory. It pays off for trainings
                that last minutes. On a CPU, equal max values of a pooling window share its
                gradient. Default False.
            options: steps, adjoint, tolerance, throw, state and on_step, as of `solve`.

        Returns:
            The adapted model; this one does not change.

        Raises:
            TypeError, ValueError: `init` names no parameter of the module, or has a tensor of
                another shape, dtype or device, or two for one parameter; `batches` cannot be taken
                by their number, or `accumulate` is given without them.
            torch._dynamo.exc.Unsupported: `compile` is set, and the loss cannot be compiled, for
                example because it branches on a tensor's value; the message names the line.
        """
        own = {**self._own(), **fitting(self.module, init or {})}
        chosen = select(self.module, self._selection)
        # Copies: a loss may change its model's parameters in place.
        start = {name: own.pop(name, value).clone() for name, value in chosen.items()}
        batch_statistics = self._policy != "frozen"
        # Not the returned ones: their values may keep the loss alive, and with it all copies.
        adapting = copy.copy(self)
        adapting.solution, adapting._adapted = None, None
        adapting._others, adapting._compile = own, compile
        model = adapting._model(batch_statistics)

        def values_loss(values: dict[str, Tensor], *batch: Any) -> Any:
            return loss(model(values), *batch)

        objective: Callable[..., Problem] = partial(Objective, has_aux=has_aux)
        if compile:
            compiled = self._made_once(compiled_value_and_gradient)
            objective = partial(CompiledObjective, compiled=compiled, has_aux=has_aux)
        if batches is None and accumulate != 1:
            raise ValueError(f"accumulate: {accumulate}, should be 1 where no batches are given")
        if batches is None:
            problem = objective(values_loss)
        else:
            problem = MiniBatches(values_loss, batches, accumulate=accumulate, objective=objective)
        solution = solve(problem, start, solver, **options)
        adapted = copy.copy(adapting)
        adapted.solution, adapted.values = solution, solution.value
        if self._policy == "per_task":
            recorded = adapted._filled(_template(self.module, batch_statistics), adapted.values)
            with recorded_statistics(recorded) as statistics:
                if batches is None:
                    loss(recorded)
                else:
                    for number in range(len(batches)):
                        loss(recorded, batches[number])
            adapted._statistics = statistics
        return adapted

    def state_dict(self) -> dict[str, Any]:
        """Values and buffers, detached copies, as the module's `load_state_dict` takes them."""
        state = self.module.state_dict()
        own = {**self._own(), **self._statistics}
        for name, first in first_names(self.module).items():
            if first in own and name in state:
                state[name] = own[first]
        return {
            name: value.detach().clone() if isinstance(value, Tensor) else value
            for name, value in state.items()
        }

    def _own(self) -> dict[str, Tensor]:
        """The values that replace the module's parameters, as far as they still fit."""
        return fitting(self.module, {**self._others, **(self._adapted or {})}, "values")

    def _model(self, batch_statistics: bool) -> Callable[[dict[str, Tensor]], Model]:
        """A function that makes the model that a loss receives from the adapting values."""
        if self._compile or torch.compiler.is_compiling():
            skeleton = _skeleton(self.module, batch_statistics)
            return lambda values: lambda *args, **kwargs: self._run(skeleton, values, args, kwargs)
        template = _template(self.module, batch_statistics)
        return lambda values: self._filled(template, values)

    def _filled(self, template: Template, values: Mapping[str, Tensor]) -> nn.Module:
        """A copy of the module whose tensors are the values; changes to it reach nothing else."""
        own = {**self._others, **values}
        tensors: dict[int, Any] = {}
        for name, parameter in template.parameters.items():
            tensors[id(parameter)] = own[name] if name in own else parameter.view_as(parameter)
        for name, buffer in template.buffers.items():
            # Copies: a layer may change its buffers in place.
            tensors[id(buffer)] = self._statistics.get(name, buffer).clone()
        filled: nn.Module = template.copy(tensors, clone)
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
        tied = _shares_parameters(skeleton)
        return functional_call(skeleton, tensors, args, kwargs, tie_weights=tied)


class AdaptOptions(SolveOptions, total=False):
    """The options of `Adapted.adapt`, described there."""

    batches: Sequence[Any] | None
    accumulate: int
    has_aux: bool
    init: Mapping[str, Tensor] | None
    compile: bool


def adapt(
    module: nn.Module | Adapted,
    loss: Callable[..., Any],
    solver: Solver,
    *,
    parameters: Selection | None = None,
    buffers: BufferPolicy = "frozen",
    **options: Unpack[AdaptOptions],
) -> Adapted:
    """Adapt a module to a loss; the module handed in never changes.

    Args:
        module: what to adapt; an `Adapted` one keeps adapting, with its choices of parameters and
            buffers.
        loss: maps the model, a callable like the module, to a scalar, for example
            `lambda model: F.cross_entropy(model(images), labels)`; with `batches`, the model and a
            batch.
        solver: how the loss is minimised.
        parameters, buffers: see `Adapted`.
        options: the options of `Adapted.adapt`: batches, accumulate, has_aux, init, compile, and
            those of `solve`. Compiling pays off for an `Adapted` module that is adapted many times.

    Returns:
        The adapted model.
    """
    if not isinstance(module, Adapted):
        module = Adapted(module, parameters, buffers)
    elif parameters is not None:
        raise ValueError("parameters: are chosen once, when a module is first adapted")
    return module.adapt(loss, solver, **options)


def _shares_parameters(module: nn.Module) -> bool:
    """Whether a parameter has more than one name; searching for those in every call is slow."""
    return any(
        len(list(tensors(remove_duplicate=False))) > len(list(tensors()))
        for tensors in (module.named_parameters, module.named_buffers)
    )


def _skeleton(module: nn.Module, batch_statistics: bool) -> nn.Module:
    """The module, or a copy that shares its tensors, with one kind of BatchNorm statistics."""
    normalised = any(isinstance(layer, BatchNorm) for layer in module.modules())
    if not normalised and (torch.compiler.is_compiling() or current_thread() is main_thread()):
        return module
    template = _template(module, batch_statistics)
    skeleton: nn.Module = template.copy(_themselves(template), clone)
    return skeleton


def _template(module: nn.Module, batch_statistics: bool) -> Template:
    """A template of the module as it is now, with one kind of BatchNorm statistics."""
    return Template(module, in_place=with_statistics(module, batch_statistics))


def _themselves(template: Template) -> dict[int, Any]:
    """A memo that lets a copy share the tensors of the module."""
    return {id(t): t for t in (*template.parameters.values(), *template.buffers.values())}
