import pytest

from innerloop_vos.errors import InputError
from innerloop_vos.files import atomic_path, prepare_output


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
