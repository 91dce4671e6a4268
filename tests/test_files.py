import os
import stat
import threading

import pytest

from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path, prepare_output, regular_file


def write_half(path, error):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".csv"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_half(path, KeyboardInterrupt())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_refuses_is_named(tmp_path):
    for path in (tmp_path / "absent" / "table.csv", tmp_path):
        with pytest.raises(InputError, match=f"cannot write {path}"), atomic_path(path) as file:
            file.write_text("text")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(InputError, match="No space left"):
        write_half(tmp_path / "table.csv", OSError(28, "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_output_folders_are_made(tmp_path):
    folder = prepare_output(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert prepare_output(folder) == folder
    assert not list(folder.iterdir())


def test_output_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match="file is a file"):
        prepare_output(tmp_path / "file")
    with pytest.raises(InputError, match="not writable"):
        prepare_output(tmp_path / "file" / "below")


def test_a_read_only_output_folder(tmp_path, monkeypatch):
    # Permission bits do not stop root, who may run the tests.
    def refuse(**kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match="not writable: Read-only file system"):
        prepare_output(tmp_path)


def write(path, text="new"):
    with atomic_path(path) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("before", ["old", None])
def test_a_link_stays_and_its_file_is_written(tmp_path, before):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "table.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    if before:
        target.write_text(before)
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link.csv", "table.csv", "there"]


def test_devices_and_pipes_are_written_to(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    write(tmp_path / "null")
    assert (tmp_path / "null").is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe)
    reader.join(10)
    assert read == ["new"]
    assert pipe.is_fifo()


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path):
    path, other = tmp_path / "table.csv", tmp_path / "other.csv"
    path.write_text("old")
    path.chmod(0o640)
    other.hardlink_to(path)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (path.read_text(), other.read_text()) == ("new", "old")


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name, kind in (("pipe", "a pipe"), ("null", "a device"), (".", "a folder")):
        with pytest.raises(InputError, match=f"is {kind}"):
            regular_file(tmp_path / name)
    with pytest.raises(InputError, match="no such mask"):
        regular_file(tmp_path / "absent", "mask")
