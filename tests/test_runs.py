"""Continued runs: their records, locks, signals, and states equal to the bit."""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from davis_layout import write_davis

import innerloop_vos.runs.resuming as resuming
from innerloop._states import read_state, write_state
from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.commands import program
from innerloop_vos.data.sequence import check_name
from innerloop_vos.io.masks import read_mask
from innerloop_vos.io.video import open_frames
from innerloop_vos.runs import signals
from innerloop_vos.runs.folder import check_same, describe, locked, sweep
from innerloop_vos.segmenter import Observation, Segmenter

LENGTH = 6


@pytest.fixture
def davis(tmp_path):
    return write_davis(tmp_path / "DAVIS", ["cat"], length=LENGTH)


def segment(davis, out, *more):
    frames = davis / "JPEGImages/480p/cat"
    mask = davis / "Annotations/480p/cat/00000.png"
    words = ["segment", frames, "--mask", mask, "--out", out, "--method", "ridge", *more]
    return main([str(word) for word in words])


def interrupt_after(monkeypatch, count, number=signal.SIGTERM):
    """Send a signal to this process while the mask after `count` others is written."""
    write, written = resuming.write_mask, []

    def stop(path, labels):
        if len(written) == count:
            os.kill(os.getpid(), number)
        written.append(path)
        write(path, labels)

    monkeypatch.setattr(resuming, "write_mask", stop)
    return written


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_stopped_segmentation_goes_on_to_the_same_masks(
    davis, tmp_path, monkeypatch, number, code
):
    assert segment(davis, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, number)
        assert segment(davis, tmp_path / "parts") == code
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [resuming.UNFINISHED]
    written = interrupt_after(monkeypatch, None)
    assert segment(davis, tmp_path / "parts") == 0
    assert len(written) == LENGTH - 3
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def other_frame(davis, out):
    path = davis / "JPEGImages/480p/cat/00004.jpg"
    path.write_bytes(path.read_bytes()[:-2] + b"\0\0")


def other_start(davis, out):
    masks = davis / "Annotations/480p/cat"
    (masks / "00000.png").write_bytes((masks / "00003.png").read_bytes())


def other_mask(davis, out):
    path = out / resuming.UNFINISHED / "00001.png"
    path.write_bytes(path.read_bytes() + b"\0")


def flipped_bit(davis, out):
    path = out / resuming.UNFINISHED / "state.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (other_frame, [], "holds a run with input"),
        (other_start, [], "holds a run with mask"),
        (other_mask, [], "00001.png is not as it was written"),
        (flipped_bit, [], "it is damaged"),
        (lambda davis, out: None, ["--solver", "exact"], "holds a run with solver None, not 'ex"),
    ],
)
def test_something_else_is_not_gone_on_with(
    davis, tmp_path, monkeypatch, capsys, change, more, message
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert segment(davis, out) == 143
    change(davis, out)
    before = contents(out / resuming.UNFINISHED)
    assert segment(davis, out, *more) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert contents(out / resuming.UNFINISHED) == before


def test_another_version_is_refused_with_how_to_go_on():
    with pytest.raises(InputError, match=r"of version 0\.1.*pip install innerloop==0\.1"):
        check_same({"version": "0.1"}, {"version": "0.2"}, "out")


def test_files_count_by_content_and_data_wherever_it_lies(tmp_path):
    one, two = (write_davis(tmp_path / name, ["cat"], length=3) for name in ("one", "two"))

    def record(root):
        return describe(argparse.Namespace(davis=str(root), out=str(root / "out"), rate=0.1))

    before = record(one)
    assert record(two) == before
    (two / "out").mkdir()
    (two / "out" / "curve.json").write_text("[]")
    assert record(two) == before
    path = two / "Annotations/480p/cat/00001.png"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert record(two) != before


def test_a_folder_has_one_writer(tmp_path, davis, capsys):
    with locked(tmp_path / "DAVIS"):
        assert segment(davis, tmp_path / "DAVIS") == 2
    assert "another process is writing to" in capsys.readouterr().err
    with locked(tmp_path / "DAVIS"):  # a lock leaves no file
        assert {p.name for p in davis.iterdir()} == {"JPEGImages", "Annotations", "ImageSets"}


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    keep = [".hidden", "a.png", ".a-b.png", f"a-{32 * 'a'}.png"]
    for name in [*keep, f".a-{32 * 'a'}.png"]:
        (tmp_path / name).touch()
    (tmp_path / ".partial-x").mkdir()
    (tmp_path / ".partial-x" / "a.png").touch()
    with locked(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(keep)
    sweep(tmp_path / "none")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "/a", "a\\b", "..\\a", "C:a", "a\0", "a\nb", "\x1b[2J", "\ud800",
     256 * "a", 3, None],
)  # fmt: skip
def test_names_are_one_part_of_a_path(name):
    with pytest.raises(InputError, match="should be that of one folder"):
        check_name(name)


@pytest.mark.parametrize("name", ["cat", "a b", "..a", "a.b", "é", "00"])
def test_names_of_folders_are_taken(name):
    assert check_name(name) == name


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "state.pt"
    write_state(path, {"a": torch.arange(3.0), "b": [1, None, "x"]})
    assert read_state(path)["a"].tolist() == [0, 1, 2]
    assert torch.load(path, weights_only=True)["b"] == [1, None, "x"]
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with pytest.raises(InputError):
            read_state(path)
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError):
            read_state(path)


class Brightness(Segmenter):
    """Takes for the object what is as bright as it was, on the average of all frames so far."""

    def reset(self):
        self.seen = torch.zeros(2)

    def encode(self, frame):
        return frame.float().mean(0)

    def add(self, encoded, masks):
        self.learn(encoded, masks.float())

    def trust(self, encoded, masks):
        raise NotImplementedError

    def keep(self, places):
        raise NotImplementedError

    def track(self, encoded):
        self.encoded = encoded
        return Observation(20 - (encoded - self.seen[0] / self.seen[1]).abs()[None])

    def update(self, observation, merged):
        self.learn(self.encoded, merged)

    def learn(self, encoded, probabilities):
        self.seen = self.seen + torch.stack([(encoded * probabilities).sum(), probabilities.sum()])

    def learned(self):
        return self.seen

    def relearn(self, state):
        self.seen = state.clone()

    def mask_from_box(self, frame, box):
        raise NotImplementedError


def flip(path, draw):
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def cut(path, draw):
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def replaced(path, draw):
    """A whole file with its right digest, in which one part is something else."""
    state = read_state(path)
    strange = [None, True, -1, 1.5, "x", [], {}, [[]], 10**30, torch.zeros(3)]
    state[draw.choice(list(state))] = draw.choice(strange)
    write_state(path, state)


def absent(path, draw):
    state = read_state(path)
    del state[draw.choice(list(state))]
    write_state(path, state)


def linked(path, draw):
    path.unlink()
    path.symlink_to(draw.choice(["/dev/zero", "nowhere", path.parent]))


@pytest.mark.parametrize("damage", [flip, cut, replaced, absent, linked])
def test_damaged_states_of_a_clip_are_one_line_and_stay(davis, tmp_path, monkeypatch, damage):
    frames = open_frames(str(davis / "JPEGImages/480p/cat"))
    first = read_mask(davis / "Annotations/480p/cat/00000.png")

    def go_on(out):
        resuming.segment_to(out, Brightness(), frames, {0: first}, {"version": "1"})
        return contents(out)

    (tmp_path / "whole").mkdir()
    expected = go_on(tmp_path / "whole")
    (tmp_path / "stopped").mkdir()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            go_on(tmp_path / "stopped")
    draw, refused = random.Random(0), 0
    for number in range(25):
        out = tmp_path / str(number)
        shutil.copytree(tmp_path / "stopped", out)
        damage(out / resuming.UNFINISHED / "state.pt", draw)
        before = set((out / resuming.UNFINISHED).iterdir())
        try:
            assert go_on(out) == expected
        except InputError as error:
            refused += len(str(error).splitlines()) == 1
            assert set((out / resuming.UNFINISHED).iterdir()) == before
    # An empty list of masks is that of a clip of which nothing is done yet.
    assert refused == 25 or (damage is replaced and refused >= 20)
    assert go_on(tmp_path / "stopped") == expected


START = """
import os, sys
from innerloop_vos.cli import main

class Signal:
    def find_spec(name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), int(number))

_, module, number, *sys.argv = sys.argv
sys.meta_path.insert(0, Signal)
sys.exit(main())
"""


@pytest.mark.parametrize("number", signals.STOPPING)
@pytest.mark.parametrize("module", ["innerloop_vos.commands", "torch", "innerloop_vos.runs.folder"])
def test_a_signal_while_torch_is_imported_leaves_no_traceback(module, number, tmp_path):
    words = ["innerloop-vos", "demo", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", START, module, str(int(number)), *words]
    ended = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert ended.returncode == 128 + number
    assert ended.stderr == b""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_signal_at_the_edge_of_a_command_is_no_traceback(number, monkeypatch):
    monkeypatch.setattr(program, "_interruptible", lambda argv: os.kill(os.getpid(), number))
    assert main(["demo"]) == 128 + number


@pytest.mark.slow
def test_killed_commands_lose_nothing(tmp_path):
    script = Path(__file__).parents[1] / "benchmarks" / "commands" / "kills.py"
    command = [sys.executable, script, "--kills", "3", "--seed", "3", "--out", tmp_path]
    subprocess.run(command, check=True, timeout=900)
    kills = json.loads((tmp_path / "kills.json").read_text())
    assert len(kills) == 3
    assert all(kill["bit-equal"] for kill in kills)


@pytest.mark.parametrize("error", [ImportError("numpy failed to import"), InputError("x: bad")])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_an_interruption_was_turned_into_is_an_interruption(error, number, code, capsys):
    def run(arguments):
        # As compiled code does that is interrupted while it is imported.
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        except KeyboardInterrupt:
            raise error from None

    assert program.run(argparse.Namespace(run=run)) == code
    assert capsys.readouterr().err == "innerloop-vos: interrupted\n"


def test_errors_without_a_signal_are_what_they_are(capsys):
    def run(arguments):
        raise InputError("x: bad")

    assert program.run(argparse.Namespace(run=run)) == 2
    assert capsys.readouterr().err == "innerloop-vos: error: x: bad\n"
