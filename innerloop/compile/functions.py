"""Gradients of inner losses, and models, as compiled graphs that all steps and tasks share."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from functools import partial
from threading import RLock
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, fx

from innerloop import trees
from innerloop._autodiff import transforming, value_and_gradient
from innerloop._torch import lookup_backend
from innerloop.compile.joint_graph import JointGraphPass
from innerloop.compile.rewriting import rewrite_for_cpu
from innerloop.problems import Objective
from innerloop.trees import Tree

ValueAndGradient = Callable[[Callable[[Tree], Tensor], Tree], tuple[Tensor, Tree]]


class CompiledObjective(Objective):
    """An `Objective` whose gradient is computed by a compiled function.

    Args:
        fn, has_aux: see `Objective`.
        compiled: from `compiled_value_and_gradient`; it compiles once for all losses that run the
            same code on tensors of the same shapes.
    """

    def __init__(
        self, fn: Callable[[Tree], Any], compiled: ValueAndGradient, *, has_aux: bool = False
    ) -> None:
        super().__init__(fn, has_aux=has_aux)
        self._compiled = compiled
        self._unreached: set[int] | None = None

    def value_and_partial_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        loss, gradient = self.value_and_gradient(params)
        if transforming():
            return loss, gradient
        parts, spec = trees.flatten(gradient)
        if self._unreached is None:
            # Compiled code does not show on which tensors the loss does not depend. Where a
            # gradient is zero, which is rare, eager code finds out, once.
            self._unreached = set()
            if not all(bool(part.any()) for part in parts):
                with torch.no_grad():
                    known = super().value_and_partial_gradient(params)[1]
                self._unreached = {i for i, p in enumerate(trees.leaves(known)) if p is None}
        partial = [None if i in self._unreached else part for i, part in enumerate(parts)]
        return loss, trees.unflatten(partial, spec)

    def value_and_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        if transforming():
            return super().value_and_gradient(params)
        # Views: otherwise leaves and parameters would be compiled separately from results of steps.
        return self._compiled(self.loss, trees.tree_map(lambda leaf: leaf.view_as(leaf), params))


def compiled_value_and_gradient() -> ValueAndGradient:
    """A compiled `autodiff.value_and_gradient`, differentiable once more."""
    return _compiled(value_and_gradient, fullgraph=True)


def compiled_call() -> Callable[..., Any]:
    """A compiled `run(*args)`, differentiable; code that cannot be compiled runs eagerly."""
    return _compiled(_call, fullgraph=False)


def _call(run: Callable[..., Any], *args: Any) -> Any:
    return run(*args)


def _compiled(function: Callable[..., Any], *, fullgraph: bool) -> Callable[..., Any]:
    options: dict[str, Any] = {"backend": _backend, "isolate_recompiles": True}
    compiled: Callable[..., Any] = torch.compile(function, fullgraph=fullgraph, **options)
    return _OneCompiles(compiled)


class _OneCompiles:
    """A compiled function: a call of a new form compiles, and makes other threads wait.

    torch looks for compiled code before it waits for the compile lock, not after: threads that
    start together would each compile the same code.
    """

    def __init__(self, compiled: Callable[..., Any]) -> None:
        self._compiled = compiled
        self._lock = RLock()
        self._known: set[Hashable] = set()

    def __call__(self, *args: Any) -> Any:
        form = (torch.is_grad_enabled(), *_form(args, set()))
        if form in self._known:
            return self._compiled(*args)
        with self._lock:
            result = self._compiled(*args)
            self._known.add(form)
        return result


def _form(value: Any, seen: set[int]) -> Iterator[Hashable]:
    """What decides whether a call compiles: the code, and the tensors that it is given or closes
    over.

    If this misses something, threads may compile the same code again.
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield (value.shape, value.dtype, value.device, value.requires_grad)
    elif isinstance(value, FunctionType):
        yield value.__code__
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # nothing in it yet
                yield from _form(cell.cell_contents, seen)
    elif isinstance(value, MethodType):
        yield from _form(value.__func__, seen)
        yield from _form(vars(value.__self__) if hasattr(value.__self__, "__dict__") else (), seen)
    elif isinstance(value, partial):
        yield from _form((value.func, value.args, value.keywords), seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _form(item, seen)
    elif isinstance(value, dict):
        yield from _form(list(value.values()), seen)


def _backend(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    """Inductor, on a graph that suits it."""
    rewrite_for_cpu(graph)
    inductor: Callable[..., Any] = lookup_backend("inductor")
    compiled: Callable[..., Any] = inductor(
        graph, inputs, config_patches={"joint_custom_post_pass": JointGraphPass()}
    )
    return compiled
