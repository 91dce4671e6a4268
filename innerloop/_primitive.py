"""Autograd Functions that work in eager code, under torch.func and under torch.compile."""

import inspect
from typing import Any

import torch
from torch.autograd import Function
from torch.overrides import handle_torch_function, has_torch_function


class Primitive(Function):
    """An autograd Function that torch's function modes see like torch's own functions.

    Checkpoints use these modes to find the tensors that code closes over. As `forward` and
    `setup_context` are separate, torch.func transforms it too. Torch asks Python for the signature
    of `forward` at every call, which takes longer than many small operations; here it is cached.
    """

    generate_vmap_rule = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.forward.__signature__ = inspect.signature(cls.forward)  # type: ignore[attr-defined]

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Compute it, with the graph of its gradient."""
        if not torch.compiler.is_compiling() and has_torch_function(args):
            return handle_torch_function(cls.apply, args, *args)
        return super().apply(*args)


def wanted(ctx: Any) -> tuple[bool, ...]:
    """Which arguments of a `Primitive` want a gradient.

    Under torch.compile it is all of them: there, `ctx.needs_input_grad` may be False for the
    arguments of torch.func.grad, whose gradient would be zero.
    """
    needed: tuple[bool, ...] = ctx.needs_input_grad
    return (True,) * len(needed) if torch.compiler.is_compiling() else needed
