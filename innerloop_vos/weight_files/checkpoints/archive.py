"""The zip archives that `torch.save` writes: a pickle, and the storages as records beside it."""

import io
import struct
import sys
import zipfile
import zlib
from typing import IO, Any

from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.weight_files.checkpoints.pickles import read_pickle
from innerloop_vos.weight_files.checkpoints.tensors import (
    Storage,
    TensorCalls,
    bytes_of,
    read_storage,
    storage_dtype,
    whole,
)

START = b"PK\3\4"
_MOST_DIRECTORY = 2**24
_HEADER = struct.Struct("<4s4xH16xHH")  # signature, compression, lengths of name and extra field
_HEADER_SIZE = 30


def read_archive(file: IO[bytes], size: int) -> Any:
    """Read what was saved.

    Args:
        file: the archive.
        size: of the file in bytes.

    Raises:
        InputError: it is a TorchScript program.
        ValueError: it is damaged; damage may raise other exceptions too.
    """
    archive = _Archive(file, size)
    if "constants.pkl" in archive.records:
        raise InputError("is a TorchScript program, not a checkpoint")
    pickle = io.BytesIO(bytes_of(archive.read("data.pkl")))
    calls = TensorCalls()
    return read_pickle(pickle, calls.by_name, archive.storage)


class _Archive:
    """The records in the one folder of an archive."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size = file, size
        with zipfile.ZipFile(_Bounded(file)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
        names = [info.filename.partition("/") for info in infos]
        if len({folder for folder, _, _ in names}) != 1:
            raise ValueError("its records should be in one folder")
        self.records = {name: info for (_, _, name), info in zip(names, infos, strict=True)}
        if len(self.records) < len(infos):
            raise ValueError("records in it have the same name")
        for info in infos:
            stored = info.compress_type == zipfile.ZIP_STORED
            if not stored or info.compress_size != info.file_size or info.flag_bits & 1:
                raise ValueError("records in it are compressed or encrypted")
        if sum(info.file_size for info in infos) > size:
            raise ValueError("its records are larger than the file")
        self._storages: dict[str, Storage] = {}
        order = "little"
        if "byteorder" in self.records:
            order = bytes(bytes_of(self.read("byteorder"))).decode()
        if order not in ("little", "big"):
            raise ValueError("its byte order is unknown")
        self.foreign = order != sys.byteorder

    def read(self, name: str) -> Tensor:
        """Read a record, shape (bytes,) uint8."""
        info = self.records.get(name)
        if info is None:
            raise ValueError(f"it has no record {name}")
        self.file.seek(info.header_offset)
        signature, compression, name_length, extra = _HEADER.unpack(self.file.read(_HEADER_SIZE))
        local = self.file.read(name_length)
        if (signature, compression, local) != (START, 0, info.orig_filename.encode()):
            raise ValueError("its directory is not that of its records")
        start = self.file.seek(extra, io.SEEK_CUR)
        if start + info.file_size > self.size:
            raise ValueError("records in it end behind the file")
        content = read_storage(self.file, info.file_size)
        # torch writes 0 where it was told not to compute the sum.
        if info.CRC and zlib.crc32(bytes_of(content)) != info.CRC:
            raise ValueError(f"the record {name} is damaged: its checksum differs")
        return content

    def storage(self, saved_id: Any) -> Storage:
        """Return the storage that a pickle refers to."""
        if type(saved_id) is not tuple or len(saved_id) != 5 or saved_id[0] != "storage":
            raise ValueError("its pickle has a persistent id that is no storage")
        _, kind, key, _, count = saved_id
        dtype = storage_dtype(kind)
        if type(key) is not str:
            raise ValueError("a storage in it has no name")
        if key not in self._storages:
            content = self.read(f"data/{key}").untyped_storage()
            if self.foreign and kind.name.endswith("UntypedStorage"):
                raise ValueError("it is from a machine of another byte order")
            if self.foreign:
                content.byteswap(dtype)  # type: ignore[no-untyped-call]
            self._storages[key] = Storage(dtype, content)
        found = self._storages[key]
        if found.dtype != dtype or found.content.nbytes() != whole(count) * dtype.itemsize:
            raise ValueError("a storage in it is of another size than its pickle says")
        return found


class _Bounded:
    """What `ZipFile` needs of a file; it reads the directory, of whatever size, at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_DIRECTORY:
            raise ValueError("its directory is too large")
        return self._file.read(size)
