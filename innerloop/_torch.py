"""Every private name of torch that this package uses, and nothing else.

`tests/test_private_torch.py` says which of them a new version of torch has changed.
"""

from typing import Any

import torch
from torch import Tensor
from torch._dynamo.backends.registry import lookup_backend
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._ops import OpOverload
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.utils.parametrizations import _WeightNorm as WeightNormParametrization
from torch.utils import _pytree as pytree

without_torch_function = torch._C.DisableTorchFunction
"""A context in which no function mode sees any call."""


def inside_transform() -> bool:
    """Whether a torch.func transform runs this code."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a torch.func transform has made the tensor."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def current_backward_pass() -> int:
    """The id of the backward pass that runs this code, or -1 outside of any."""
    return int(torch._C._current_graph_task_id())


def saved_tensors(node: Any) -> list[Tensor]:
    """The tensors that a node of a graph keeps for the gradient.

    Without those that a hook packed, and zeros that take no memory.
    """
    names = _NAMES.get(type(node))
    if names is None:
        names = [name for name in dir(node) if name.startswith("_raw_saved_")]
        _NAMES[type(node)] = names
    found = [getattr(node, name) for name in names]
    each = [s for saved in found for s in (saved if isinstance(saved, tuple) else (saved,))]
    kept = [_unwrapped(saved.data) for saved in each if isinstance(saved.data, Tensor)]
    return [tensor for tensor in kept if not tensor._is_zerotensor()]


def _unwrapped(tensor: Tensor) -> Tensor:
    """What a tensor of a torch.func transform holds."""
    while is_wrapped(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


_NAMES: dict[type, list[str]] = {}

__all__ = [
    "BatchNorm",
    "CustomGraphPass",
    "OpOverload",
    "WeightNormParametrization",
    "current_backward_pass",
    "get_hash_for_files",
    "inside_transform",
    "is_wrapped",
    "lookup_backend",
    "pytree",
    "saved_tensors",
    "without_torch_function",
]
