"""Tensors of a checkpoint: views of storages, each checked before anything is allocated."""

import math
from collections.abc import Callable
from typing import IO, Any

import torch
from torch import Tensor, nn

from innerloop_vos.weight_files.checkpoints.pickles import Global, Unknown

_MOST_EXPANDED = 2**31
"""Bytes that all tensors larger than their storages would take written out."""

_MOST_DIMENSIONS = 64

_DTYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
}
_QUANTIZED = {torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4}

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "QUInt8Storage": torch.quint8,
    "QInt8Storage": torch.qint8,
    "QInt32Storage": torch.qint32,
    "QUInt4x2Storage": torch.quint4x2,
    "QUInt2x4Storage": torch.quint2x4,
    "UntypedStorage": torch.uint8,
}


class Storage(Unknown):
    """The numbers that tensors are views of.

    Args:
        dtype: of the numbers; uint8 where each tensor has its own.
        content: the numbers.
    """

    def __init__(self, dtype: torch.dtype, content: torch.UntypedStorage) -> None:
        self.dtype, self.content = dtype, content

    def part(self, start: int, count: int) -> "Storage":
        """Return the storage of some of the numbers."""
        size = self.dtype.itemsize
        if not 0 <= start <= start + count <= self.content.nbytes() // size:
            raise ValueError("a storage in it lies outside that which it is part of")
        part = self.content[start * size : (start + count) * size]
        return Storage(self.dtype, part)


def storage_dtype(kind: object) -> torch.dtype:
    """Return the dtype of a class of storages.

    Raises:
        ValueError: it is not known.
    """
    name = kind.name.rpartition(" ")[2] if type(kind) is Global else None
    if name not in _STORAGES:
        raise ValueError("a storage in it is of an unknown kind")
    return _STORAGES[name]


def whole(number: object) -> int:
    """Return a number that counts something, or raise ValueError."""
    if type(number) is not int or not 0 <= number < 2**63:
        raise ValueError("a size in it is no whole number that is 0 or more")
    return number


def read_storage(file: IO[bytes], nbytes: int) -> Tensor:
    """Read bytes that are there, shape (nbytes,) uint8."""
    content = torch.empty(nbytes, dtype=torch.uint8)
    fill(content, file)
    return content


def fill(content: Tensor, file: IO[bytes]) -> None:
    """Read bytes into a tensor (n,) uint8."""
    view = bytes_of(content)
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it ends too early")
        view = view[count:]


def bytes_of(content: Tensor) -> memoryview:
    """Return the bytes of a tensor (n,) uint8, which share its memory."""
    array: Any = content.numpy()
    return memoryview(array)


class TensorCalls:
    """What to call for the functions that tensors are pickled with."""

    def __init__(self) -> None:
        self.expanded = 0
        self._tensors: dict[str, Callable[..., Any]] = {
            "torch._utils _rebuild_tensor": self.tensor,
            "torch._utils _rebuild_tensor_v2": self.tensor,
            "torch._utils _rebuild_tensor_v3": self.tensor_of_dtype,
            "torch._utils _rebuild_parameter": self.parameter,
            "torch._utils _rebuild_parameter_with_state": self.parameter,
        }
        self.by_name: dict[str, Callable[..., Any]] = {
            **self._tensors,
            "torch._tensor _rebuild_from_type_v2": self.of_type,
            "torch Size": self.size,
        }

    def tensor(
        self,
        storage: object,
        offset: object,
        size: object,
        stride: object,
        requires_grad: object = False,
        hooks: object = None,
        metadata: object = None,
    ) -> Tensor | Unknown:
        """Return a view of a storage, with the storage's dtype."""
        if type(storage) is not Storage:
            return _unknown(storage)
        return self._view(storage, storage.dtype, offset, size, stride, requires_grad)

    def tensor_of_dtype(
        self,
        storage: object,
        offset: object,
        size: object,
        stride: object,
        requires_grad: object,
        hooks: object,
        dtype: object,
        metadata: object = None,
    ) -> Tensor | Unknown:
        """Return a view of an untyped storage."""
        module, _, name = dtype.name.partition(" ") if type(dtype) is Global else ("", "", "")
        if type(storage) is not Storage or module != "torch" or name not in _DTYPES:
            return _unknown(storage)
        return self._view(storage, _DTYPES[name], offset, size, stride, requires_grad)

    def parameter(
        self, data: object, requires_grad: object, hooks: object = None, state: object = None
    ) -> Tensor | Unknown:
        """Return a tensor as a parameter."""
        if not isinstance(data, Tensor):
            return _unknown(data)
        return nn.Parameter(data.detach(), requires_grad is True and _can_learn(data))

    def of_type(
        self, function: object, kind: object, arguments: object, state: object
    ) -> Tensor | Unknown:
        """Return a tensor of another class, or with attributes, as a plain one."""
        call = self._tensors.get(function.name) if type(function) is Global else None
        if call is None or type(arguments) is not tuple:
            return Unknown()
        found: Tensor | Unknown = call(*arguments)
        return found

    def size(self, numbers: object) -> torch.Size:
        """Return a shape."""
        return torch.Size(_numbers(numbers))

    def _view(
        self,
        storage: Storage,
        dtype: torch.dtype,
        offset: object,
        size: object,
        stride: object,
        requires_grad: object,
    ) -> Tensor | Unknown:
        if dtype in _QUANTIZED:
            return Unknown()
        shape, strides, start = _numbers(size), _numbers(stride), whole(offset)
        steps = zip(shape, strides, strict=True)
        reach = sum((count - 1) * step for count, step in steps) + 1 if all(shape) else 0
        there = storage.content.nbytes()
        if (start + reach) * dtype.itemsize > there:
            raise ValueError("a tensor in it lies outside its storage")
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes > there:
            self.expanded += nbytes
        if self.expanded > _MOST_EXPANDED:
            raise ValueError("tensors in it are far larger than their storages")
        tensor = torch.empty(0, dtype=dtype)
        tensor.set_(storage.content, start, shape, strides)
        return tensor.requires_grad_(requires_grad is True and _can_learn(tensor))


def _numbers(numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, tuple | list) or len(numbers) > _MOST_DIMENSIONS:
        raise ValueError("a shape in it is no short tuple of numbers")
    return tuple(map(whole, numbers))


def _can_learn(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _unknown(part: object) -> Unknown:
    """What is made of an unknown part is unknown; any other is damage."""
    if not isinstance(part, Unknown):
        raise ValueError("a tensor in it has no storage")
    return Unknown()
