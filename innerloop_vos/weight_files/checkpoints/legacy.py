"""The files that `torch.save` wrote before version 1.6: pickles, and the storages behind them."""

import struct
import sys
from typing import IO, Any

import torch
from torch import Tensor

from innerloop_vos.weight_files.checkpoints.pickles import Unknown, read_pickle
from innerloop_vos.weight_files.checkpoints.tensors import (
    Storage,
    TensorCalls,
    fill,
    storage_dtype,
    whole,
)

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_MOST_HEADER = 1000
"""Opcodes of the pickles before the one with the content."""


def read_legacy(file: IO[bytes], size: int) -> Any:
    """Read what was saved.

    Args:
        file: stands at its start.
        size: of the file in bytes.

    Raises:
        ValueError: it is damaged; damage may raise other exceptions too.
    """
    file = _Limited(file, size)  # type: ignore[assignment]
    magic, version, _ = (read_pickle(file, most=_MOST_HEADER) for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError("it is not what torch.save writes")
    storages = _Storages(size)
    content = read_pickle(file, TensorCalls().by_name, storages.storage)
    storages.fill(read_pickle(file), file)
    return content


class _Storages:
    """The storages that a pickle declares, whose bytes follow."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._declared: dict[str, tuple[Storage, Tensor]] = {}
        self._parts: dict[str, Storage] = {}

    def storage(self, saved_id: Any) -> Unknown:
        """Return the storage that a pickle refers to, as yet without its numbers."""
        if type(saved_id) is tuple and saved_id[:1] == ("module",):
            return Unknown()  # a class with its source
        if type(saved_id) is not tuple or len(saved_id) != 6 or saved_id[0] != "storage":
            raise ValueError("its pickle has a persistent id that is no storage")
        _, kind, key, _, count, view = saved_id
        dtype = storage_dtype(kind)
        if type(key) is not str:
            raise ValueError("a storage in it has no name")
        nbytes = whole(count) * dtype.itemsize
        if key not in self._declared:
            self.left -= nbytes
            if self.left < 0:
                raise ValueError("its storages are larger than the file")
            content = torch.empty(nbytes, dtype=torch.uint8)
            self._declared[key] = Storage(dtype, content.untyped_storage()), content
        found = self._declared[key][0]
        if found.dtype != dtype or found.content.nbytes() != nbytes:
            raise ValueError("a storage in it has two sizes")
        return found if view is None else self._part(found, *view)

    def _part(self, whole_: Storage, key: object, start: object, count: object) -> Storage:
        if type(key) is not str:
            raise ValueError("a storage in it has no name")
        if key not in self._parts:
            self._parts[key] = whole_.part(whole(start), whole(count))
        return self._parts[key]

    def fill(self, keys: Any, file: IO[bytes]) -> None:
        """Read the numbers of all storages, in the order of the keys."""
        if type(keys) is not list or sorted(keys) != sorted(self._declared):
            raise ValueError("its storages are not those that its pickle names")
        for key in keys:
            storage, content = self._declared[key]
            count = struct.unpack("<q", file.read(8))[0]
            if count * storage.dtype.itemsize != len(content):
                raise ValueError("a storage in it is of another size than its pickle says")
            fill(content, file)
            if sys.byteorder == "big":
                storage.content.byteswap(storage.dtype)  # type: ignore[no-untyped-call]


class _Limited:
    """A file of which no more is asked than is there, for that would be allocated."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.readline, self.readinto = file.readline, file.readinto  # type: ignore[attr-defined]

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._size - self._file.tell()))
