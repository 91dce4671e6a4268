"""Checkpoints of other systems are read without running what is pickled in them."""

import os
import sys
import types
import zipfile

import pytest
import torch

from innerloop.errors import InputError
from innerloop_vos.weight_files.checkpoints import Unknown, read_checkpoint

FORMATS = pytest.mark.parametrize("zipped", [True, False])


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Items(list):
    """A list of another class, with attributes."""

    def __init__(self, *items):
        super().__init__(items)
        self.note = "more"


def write(path, value, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@FORMATS
def test_tensors_and_containers_come_back(tmp_path, zipped):
    base = torch.arange(12.0).reshape(3, 4)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    saved = {
        "net": net.state_dict(),
        "views": [base, base[1:, ::2], base.T],
        "half": (torch.ones(2).half(), torch.tensor(3)),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "epoch": 7,
    }
    found = read_checkpoint(write(tmp_path / "c.pth", saved, zipped))
    assert found["epoch"] == 7
    torch.testing.assert_close(found["net"], net.state_dict())
    torch.testing.assert_close(found["views"], saved["views"])
    torch.testing.assert_close(found["half"], saved["half"])
    torch.testing.assert_close(found["parameter"].detach(), saved["parameter"].detach())


@FORMATS
def test_classes_that_are_not_there_do_not_matter(tmp_path, zipped, monkeypatch):
    module = types.ModuleType("vanished")
    exec("class Settings:\n    pass\ndef build(*args): return Settings()", module.__dict__)
    monkeypatch.setitem(sys.modules, "vanished", module)
    settings = module.Settings()
    settings.numbers, settings.inner = [1, 2], module.Settings()
    saved = {
        "constructor": settings,
        "function": module.build,
        "made": Call(module.build, 1, "two"),
        "items": Items(torch.ones(1), 2),
        "net": {"weight": torch.ones(2)},
    }
    path = write(tmp_path / "c.pth", saved, zipped)
    monkeypatch.delitem(sys.modules, "vanished")
    found = read_checkpoint(path)
    assert found["net"]["weight"].tolist() == [1, 1]
    for name in ("constructor", "made", "items"):
        assert type(found[name]) is Unknown
    assert "vanished" not in sys.modules


@FORMATS
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__])
def test_no_function_is_called(tmp_path, zipped, function):
    sign = tmp_path / "called"
    code = f"open({str(sign)!r}, 'w')"
    arguments = {
        os.system: (f"touch {sign}",),
        getattr: (Call(__import__, "os"), "system"),
        __import__: ("antigravity",),
    }.get(function, (code,))
    saved = {"net": {"weight": torch.ones(2)}, "constructor": Call(function, *arguments)}
    path = write(tmp_path / "c.pth", saved, zipped)
    assert read_checkpoint(path)["net"]["weight"].tolist() == [1, 1]
    assert not sign.exists()
    assert "antigravity" not in sys.modules
    if function is eval:  # the file would do harm if it were trusted
        torch.load(path, weights_only=False)
        assert sign.exists()


def test_files_that_are_no_checkpoints_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("program/constants.pkl", b"")
    (tmp_path / "text.pth").write_text("weights")
    whole = write(tmp_path / "whole.pth", {"net": torch.ones(1000)}).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    for name, message in [
        ("missing.pth", "is not a file"),
        ("program.pt", "TorchScript"),
        ("text.pth", "cannot be read"),
        ("cut.pth", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=rf"^checkpoint: .*{name}.*{message}"):
            read_checkpoint(tmp_path / name)
