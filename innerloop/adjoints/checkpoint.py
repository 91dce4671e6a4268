"""Checkpointing of code that takes gradients inside and closes over tensors that need them.

`torch.utils.checkpoint` offers two kinds. The non-reentrant kind saves little if a gradient is
taken inside; the reentrant kind supports neither `torch.autograd.grad` nor tensors that the code
closes over. Here these tensors are found while the code runs, and passed as arguments.
"""

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from innerloop import trees
from innerloop._primitive import Primitive
from innerloop._torch import is_wrapped
from innerloop.adjoints.circumstances import Circumstances, without_autocast_cache
from innerloop.trees import Tree


class _Capture(TorchFunctionMode):
    """Collect the tensors with gradient that code uses but does not make."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []
        # By `id`, and removed with the tensor, as another one may then get the same `id`.
        self._known: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    def know(self, tensors: Iterable[Any]) -> None:
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self._known[id(tensor)] = tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, Tensor):
                self._look_at(value)
            elif type(value) not in _ATOMS:
                for leaf in trees.leaves(value):
                    if isinstance(leaf, Tensor):
                        self._look_at(leaf)
        result = func(*args, **(kwargs or {}))
        # All of them: the results of autograd Functions require no gradient while these run.
        if isinstance(result, Tensor):
            self._known[id(result)] = result
        elif type(result) not in _ATOMS:
            self.know(trees.leaves(result))
        return result

    def _look_at(self, tensor: Tensor) -> None:
        if tensor.requires_grad and id(tensor) not in self._known and not is_wrapped(tensor):
            self._known[id(tensor)] = tensor
            self.found.append(tensor)


class _Substitute(TorchFunctionMode):
    """Run code with other tensors in place of those that it closes over."""

    def __init__(self, originals: list[Tensor], replacements: list[Tensor]) -> None:
        super().__init__()
        self._originals = originals  # kept alive, so that their ids stay theirs
        self._replacements = dict(zip(map(id, originals), replacements, strict=True))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = [self._replaced(value) for value in args]
        kwargs = {name: self._replaced(value) for name, value in kwargs.items()} if kwargs else {}
        return func(*args, **kwargs)

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._replacements.get(id(value), value)
        if type(value) in _ATOMS:
            return value
        return trees.tree_map(self._replaced_leaf, value)

    def _replaced_leaf(self, leaf: Any) -> Any:
        return self._replacements.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf


_ATOMS = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device, torch.Size})
"""Types of arguments that hold no tensors."""


class _Recompute(Primitive):
    """Return results computed without a graph, and compute them again for the gradient."""

    @staticmethod
    def forward(ctx: Any, run: Callable[..., Any], results: list[Tensor], *inputs: Tensor) -> Any:
        ctx.run = run
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        return tuple(result.detach() for result in results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            fresh = fresh_tensors(ctx.saved_tensors, again)
            pairs = [
                (result, gradient)
                for result, gradient in zip(ctx.run(fresh), gradients, strict=True)
                if gradient is not None and result.requires_grad
            ]
            if not pairs:
                return None, None, *(None,) * len(fresh)
            found = torch.autograd.grad(
                [result for result, _ in pairs],
                fresh,
                [gradient for _, gradient in pairs],
                create_graph=again,
                allow_unused=True,
            )
        return None, None, *found


def fresh_tensors(tensors: Iterable[Tensor], again: bool) -> list[Tensor]:
    """The tensors to differentiate by; with `again`, the gradient is differentiated itself."""
    return [
        tensor.view_as(tensor)
        if again and tensor.requires_grad
        else tensor.detach().requires_grad_()
        for tensor in tensors
    ]


class Replay:
    """A run of a function without a graph, which can be repeated with one.

    Args:
        adjoint: what repeats it, for error messages.
        function: a function of a tree of tensors and other values.
        inputs: argument of the function.

    Attributes:
        result: what the function returned.
        closure: the tensors with gradient that the function closes over.
    """

    def __init__(self, adjoint: str, function: Callable[[Tree], Tree], inputs: Tree) -> None:
        self._adjoint = adjoint
        self._circumstances = Circumstances()
        capture = _Capture()
        capture.know(trees.leaves(inputs))
        with torch.no_grad(), without_autocast_cache(), capture:
            self.result = function(inputs)
        self.closure = capture.found

    def again(self, function: Callable[[Tree], Tree], inputs: Tree, closure: list[Tensor]) -> Tree:
        """`function(inputs)` under the `Circumstances` of the first run.

        Args:
            function: the function of the first run, or a part of it.
            inputs: its argument.
            closure: tensors to use in place of `closure`.

        Raises:
            RuntimeError: the function fails, which it did not in the first run.
        """
        with _Substitute(self.closure, closure):
            try:
                return self._circumstances.run(function, inputs)
            except Exception as error:
                raise self.changed(f"it failed: {error!r}") from error

    def changed(self, how: str) -> RuntimeError:
        """The error to raise where the second run is not like the first one."""
        return RuntimeError(
            f"adjoint: {self._adjoint} computed the loss again for the gradient, and {how}. The "
            "loss should be a function of the parameters: draw batches, and numbers from "
            "generators of your own, before the solve, and change no module meanwhile; or use "
            "Unroll()"
        )


def checkpoint(
    function: Callable[[Tree], Tree], inputs: Tree, same: Callable[[Tree, Tree], bool]
) -> Tree:
    """`function(inputs)`, keeping no graph: the gradient runs the function again.

    Args:
        function: a function of a tree of tensors and other values; the tensors that it closes over
            receive their gradient. It runs again under the `Circumstances` of the first run.
        inputs: argument of the function.
        same: tells whether the results of the first and of the second run are the same.

    Returns:
        What the function returns, a tree.

    Raises:
        RuntimeError: when the gradient is taken, and the function fails, or `same` is false.
    """
    leaves, spec = trees.flatten(inputs)
    tensors = [leaf for leaf in leaves if _differentiable(leaf)]
    replay = Replay("Unroll(checkpoint=...)", function, inputs)
    outputs, output_spec = trees.flatten(replay.result)

    def run(arguments: list[Tensor]) -> list[Tensor]:
        given = iter(arguments)
        filled = [next(given) if _differentiable(leaf) else leaf for leaf in leaves]
        again = replay.again(function, trees.unflatten(filled, spec), list(given))
        if not same(replay.result, again):
            raise replay.changed("it had another value than the first time")
        return [result for result in trees.leaves(again) if _differentiable(result)]

    results = [output for output in outputs if _differentiable(output)]
    attached = iter(_Recompute.apply(run, results, *tensors, *replay.closure))
    merged = [next(attached) if _differentiable(output) else output for output in outputs]
    return trees.unflatten(merged, output_spec)


def _differentiable(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
