"""Every private name of torch that this package uses, and nothing else.

`tests/test_private_torch.py` says which of them a new version of torch has changed.
"""

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
    "without_torch_function",
]
