"""Lists of sequences: what they hold, and where they stand for their names."""

import argparse
import re

import pytest
from davis_layout import write_davis

from innerloop.errors import InputError
from innerloop_vos.commands.datasets import add_dataset_arguments, open_dataset
from innerloop_vos.data.splits import sequence_names, split_names
from innerloop_vos.training.data import add_data_arguments, open_data


def test_the_validation_set_of_lwl():
    assert split_names() == ["lwl-valid"]
    names = sequence_names(["@lwl-valid"])
    assert len(names) == len(set(names)) == 300
    assert all(re.fullmatch("[0-9a-f]{10}", name) for name in names)
    # The first, the last and one in the middle of the table, and the one with a misprint.
    assert {"d82a0aa15b", "ad3fada9d9", "7e0cd25696", "0cfe974a89"} <= set(names)


def test_names_and_lists_are_put_together(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# mine\ncat # the first\n\n  dog\ncat\n")
    assert sequence_names(["cow", f"@{path}", "cow"]) == ["cow", "cat", "dog"]
    assert sequence_names(["cow", "@lwl-valid"])[0] == "cow"


def test_lists_that_are_not_there_or_empty(tmp_path):
    with pytest.raises(InputError, match="no list @lwl-test; there are @lwl-valid, or @ and a"):
        sequence_names(["@lwl-test"])
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match=r"empty\.txt names no sequence"):
        sequence_names([f"@{tmp_path / 'empty.txt'}"])
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"binary\.txt cannot be read"):
        sequence_names([f"@{tmp_path / 'binary.txt'}"])


def test_a_list_is_held_out_and_evaluated(tmp_path):
    davis = write_davis(tmp_path / "davis", ["cat", "cow", "dog"])
    path = tmp_path / "mine.txt"
    path.write_text("dog\ncat\n")
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    words = ["--davis", str(davis), "--held-out", f"@{path}"]
    sampler, validation = open_data(parser.parse_args(words), 2, 100, 0.0)
    assert [clip.name for clip in validation.clips] == ["dog", "cat"]
    assert [clip.name for clip in sampler.sampler.samplers[0].clips] == ["cow"]
    parser = argparse.ArgumentParser()
    add_dataset_arguments(parser)
    words = ["--root", str(davis), "--split", "train", "--sequences", f"cow,@{path}"]
    assert open_dataset(parser.parse_args(words)).names == ["cow", "dog", "cat"]
