"""What `torch.save` writes comes back as `torch.load` has it; hand-made attacks do nothing."""

import argparse
import io
import os
import pickle
import struct
import sys
import tarfile
import time
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from innerloop.errors import InputError
from innerloop_vos.weight_files.checkpoints import Unknown, read_checkpoint

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.complex128, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    torch.bool,
]
NEW_DTYPES = [torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn]
"""Those that torch itself cannot read back from a file of the older format."""


def contents(dtypes):
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = OrderedDict(weight=base.clone(), bias=torch.ones(3))
    state._metadata = {"": {"version": 1}}
    noted = torch.ones(2)
    noted.note = "more"
    return {
        "dtypes": {str(dtype): torch.tensor([0, 1, 3]).to(dtype) for dtype in dtypes},
        "views": [base, base[1:, ::2], base.mT, base[0, 0, 0], base.expand(2, 2, 3, 4)],
        "empty": (torch.empty(0), torch.empty(2, 0, 3), torch.tensor(2.5)),
        "learned": [torch.nn.Parameter(base.clone()), torch.ones(2, requires_grad=True)],
        "counter": torch.nn.Parameter(torch.tensor(3), requires_grad=False),
        "noted": noted,
        "state": state,
        "by number": {0: torch.ones(1), -7: "x", 1.5: None, True: False},
        "plain": (
            "text",
            b"bytes",
            {1, 2},
            [1, 2**70, -1.5, None],
            1e400,
            "\u03bc",
        ),
        "shape": base.shape,
    }


def same(found, expected):
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.stride() == expected.stride()
        assert found.requires_grad == expected.requires_grad
        assert isinstance(found, torch.nn.Parameter) == isinstance(expected, torch.nn.Parameter)
        assert found.tolist() == expected.tolist()
    elif isinstance(expected, dict):
        assert type(found) is type(expected)
        assert list(found) == list(expected)
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        for ours, theirs in zip(found, expected, strict=True):
            same(ours, theirs)
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_format_comes_back_as_torch_reads_it(tmp_path, zipped, protocol):
    path = tmp_path / "c.pth"
    saved = contents(DTYPES + NEW_DTYPES if zipped else DTYPES)
    if protocol < 3:  # where bytes are the call of an encoder
        saved["plain"] = saved["plain"][:1] + saved["plain"][2:]
    torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found, expected = read_checkpoint(path), torch.load(path, weights_only=False)
    same(found, expected)
    base, part = found["views"][:2]
    base.zero_()
    assert part.count_nonzero() == 0  # they share a storage


def test_a_file_without_checksums_and_one_of_another_byte_order(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.arange(5)}, tmp_path / "c.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / "c.pth")["x"].tolist() == [0, 1, 2, 3, 4]
    values = torch.tensor([1 + 2j, -3]), torch.tensor([1.5, 2])
    torch.save(values, tmp_path / "little.pth")
    other = {"little": b"big", "big": b"little"}[sys.byteorder]
    with (
        zipfile.ZipFile(tmp_path / "little.pth") as source,
        zipfile.ZipFile(tmp_path / "big.pth", "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if "/data/" in name:
                content = np.frombuffer(content, np.float32).byteswap().tobytes()
            target.writestr(name, other if name.endswith("byteorder") else content)
    same(read_checkpoint(tmp_path / "big.pth"), values)


def test_objects_beside_the_weights_are_stand_ins(tmp_path):
    beside = {
        "scalar": np.float64(2.0),
        "array": np.ones(3),
        "options": argparse.Namespace(rate=0.1),
        "module": torch.nn.Linear(2, 2),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "sparse": torch.eye(2).to_sparse(),
        "storage": torch.ones(3).storage(),
        "kind": torch.float32,
    }
    for zipped in (True, False):
        path = tmp_path / "c.pth"
        torch.save(
            {"net": {"w": torch.ones(2)}, **beside}, path, _use_new_zipfile_serialization=zipped
        )
        found = read_checkpoint(path)
        assert found["net"]["w"].tolist() == [1, 1]
        assert all(isinstance(found[name], Unknown) for name in beside)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def legacy(body, keys=()):
    head = [pickle.dumps(x, 2) for x in (MAGIC_NUMBER, PROTOCOL_VERSION, {})]
    return b"".join([*head, b"\x80\x02", body, b".", pickle.dumps(list(keys), 2)])


def archive(body, records=(), name="data.pkl"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(f"a/{name}", b"\x80\x02" + body + b".")
        for key, content in records:
            made.writestr(f"a/{key}", content)
    return file.getvalue()


def global_(name):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def storage(count, key="0", kind="torch.FloatStorage", last=b""):
    number = b"\x8a\x09" + struct.pack("<q", count) + b"\0"
    return b"(" + text("storage") + global_(kind) + text(key) + text("cpu") + number + last + b"tQ"


def tensor(storage, offset, size, stride):
    def numbers(values):
        return b"(" + b"".join(b"\x8a\x09" + struct.pack("<q", v) + b"\0" for v in values) + b"t"

    offset = b"\x8a\x09" + struct.pack("<q", offset) + b"\0"
    rest = numbers(size) + numbers(stride) + b"\x89" + global_("collections.OrderedDict") + b")R"
    return global_("torch._utils._rebuild_tensor_v2") + b"(" + storage + offset + rest + b"tR"


SIGN = "touched-by-a-checkpoint"
CALL = text(f"touch {SIGN}") + b"\x85"
FOUR = b"\0\0\x80\x3f" * 4

INERT = {
    "a call": global_("os.system") + CALL + b"R",
    "a call by the stack": text("os") + text("system") + b"\x93" + CALL + b"R",
    "a dotted name": text("torch") + text("os.system") + b"\x93" + CALL + b"R",
    "an instance": b"(" + text(f"touch {SIGN}") + b"ios\nsystem\n",
    "an object": b"(" + global_("os.system") + text(f"touch {SIGN}") + b"o",
    "a new object": global_("subprocess.Popen") + CALL + b"\x81",
    "a new object with names": global_("subprocess.Popen") + CALL + b"}\x92",
    "extensions": b"\x82\x01\x83\x01\x00\x84\x01\x00\x00\x00\x86",
    "state of a function": global_("torch._utils._rebuild_parameter")
    + b"N}"
    + text("__name__")
    + text(SIGN)
    + b"s\x86b",
    "items of a function": global_("os.environ") + text("A") + text("B") + b"s",
    "state of a dict": b"}}" + text("__class__") + global_("os.system") + b"sb",
    "a chain of calls": global_("builtins.getattr")
    + global_("builtins.__import__")
    + text("os")
    + b"\x85R"
    + text("system")
    + b"\x86R"
    + CALL
    + b"R",
    "a list in itself": b"]q\x00h\x00a",
    "a dict in itself": b"}q\x00" + text("net") + b"h\x00s",
    "deep nesting": b"]" * 300_000 + b"a" * 299_999,
    "deep tuples as a key": b"}" + b")" + b"\x85" * 300_000 + b"Ns",
    "lists of lists": b"]" + b"2\x86" * 200_000,
}

REFUSED = {
    "a storage id of another kind": b"K\x01Q",
    "a storage id as text": b"Pos.system\n",
    "an id of other length": b"(" + text("storage") + b"tQ",
    "an id of unknown kind": storage(4, kind="os.system"),
    "an unhashable key": b"(" + text("storage") + global_("torch.FloatStorage") + b"]NK\x04tQ",
    "a tensor that is too long": tensor(storage(4), 0, (5,), (1,)),
    "a tensor that starts outside": tensor(storage(4), 4, (1,), (1,)),
    "a tensor before its storage": tensor(storage(4), -1, (1,), (1,)),
    "a tensor of negative size": tensor(storage(4), 0, (-1,), (1,)),
    "a tensor of negative stride": tensor(storage(4), 3, (2,), (-1,)),
    "a tensor of other strides": tensor(storage(4), 0, (2,), (1, 1)),
    "an expanded bomb": tensor(storage(4), 0, (2**40,), (0,)),
    "a huge tensor": tensor(storage(4), 0, (2**62, 2**62), (0, 0)),
    "a huge storage": tensor(storage(2**40), 0, (1,), (1,)),
    "a negative storage": tensor(storage(-4), 0, (1,), (1,)),
    "a storage that is not there": tensor(storage(4, key="../../etc/passwd"), 0, (1,), (1,)),
    "huge bytes": b"\x8e" + struct.pack("<Q", 2**62) + b"x",
    "a huge number": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x",
    "a memo without bounds": b"Np" + str(2**61 - 1).encode() + b"\n",
    "more than the stack has": b"0",
    "no mark": b"Nt",
    "items of a number": b"K\x01Na",
    "a buffer": b"\x97",
    "endless opcodes": b"N0" * 1_500_000,
    "copies without bounds": b"("
    + b"N" * 100_000
    + b"lq\x00"
    + (global_("builtins.set") + b"h\x00\x85R0") * 1000,
}


def in_both(body):
    yield archive(body, [("data/0", FOUR)])
    yield legacy(body)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A folder in which nothing may be made; what would be loaded is seen too."""
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= {"c.pth"}
    assert set(sys.modules) == modules


@pytest.mark.parametrize("name", INERT)
def test_what_a_pickle_asks_for_is_not_done(watched, name):
    for content in in_both(INERT[name]):
        (watched / "c.pth").write_bytes(content)
        start = time.perf_counter()
        read_checkpoint("c.pth")
        assert time.perf_counter() - start < 20


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(watched, name):
    for content in in_both(REFUSED[name]):
        (watched / "c.pth").write_bytes(content)
        start = time.perf_counter()
        with pytest.raises(InputError, match=r"^checkpoint: c\.pth cannot be read: .") as caught:
            read_checkpoint("c.pth")
        assert time.perf_counter() - start < 20
        assert len(str(caught.value).splitlines()) == 1


def renamed(path):
    """An archive whose records have other names than its directory says."""
    content = archive(tensor(storage(4), 0, (1,), (1,)), [("data/0", FOUR)])
    path.write_bytes(content.replace(b"a/data/0", b"a/data/1", 1))


def compressed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/data.pkl", b"\x80\x02" + b"N0" * 10**6 + b"N.")


def twice(path):
    path.write_bytes(archive(b"N", [("data.pkX", b"\x80\x02N.")]).replace(b"pkX", b"pkl"))


def two_folders(path):
    path.write_bytes(archive(b"N", [("../b/data/0", FOUR)]))
    with zipfile.ZipFile(path, "a") as made:
        made.writestr("../outside", b"")


def linked(path):
    with tarfile.open(path, "w") as made:
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)


def flipped(path):
    torch.save({"x": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(b"\0\0\x80\x3f" * 100) + 200] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (renamed, "directory is not that of its records"),
        (compressed, "compressed"),
        (twice, "same name"),
        (two_folders, "in one folder"),
        (linked, "tar archive"),
        (flipped, "checksum differs"),
    ],
)
def test_archives_that_are_not_what_they_seem(watched, write, message):
    write(watched / "c.pth")
    with pytest.raises(InputError, match=message):
        read_checkpoint("c.pth")


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "zero.pth").symlink_to("/dev/zero")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    (tmp_path / "folder.pth").mkdir()
    paths = [*tmp_path.iterdir(), tmp_path / ("n" * 300), tmp_path / "a\0b", tmp_path / "absent"]
    for path in paths:
        with pytest.raises(InputError, match=r"^checkpoint: .* is not a file"):
            read_checkpoint(path)
