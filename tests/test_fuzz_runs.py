"""500 edited folders of runs: each is refused in one line, or read as it was."""

import collections
import json
import os
import random
import signal

import pytest
import torch

from innerloop._states import write_state
from innerloop.errors import InputError
from innerloop_vos.commands.evaluate import DONE, SETTINGS, _keep_settings, _read_scores
from innerloop_vos.scoring import ObjectScores, SequenceScores, write_json
from innerloop_vos.training.loop import CHECKPOINT, Training, _restore

NAMES = [f"{index:05d}" for index in range(8)]
RECORD = {"version": "1", "method": "ridge", "option": [], "weights": None}
DATA = {"cat": "abc", "dog": "def"}
FILES = [SETTINGS, f"{DONE}/cat.json", f"{DONE}/dog.json", CHECKPOINT]
STRANGE = [
    None,
    True,
    -1,
    0,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    {},
    [[]],
    10**30,
    "../x",
]


class Plain(Training):
    """A training whose state is one tensor."""

    def __init__(self):
        self.network = torch.nn.Linear(3, 2)

    def step(self, iteration):
        return {}

    def evaluate(self):
        return {}

    def export(self, folder):
        pass

    def configuration(self):
        return {"settings": {"rate": 0.1}}

    def parts(self):
        return {"network": self.network}


class Clip:
    """What the reader of scores needs of a sequence."""

    class Frames(list):
        names = NAMES

    def __init__(self, name):
        self.name, self.frames = name, self.Frames(NAMES)


def scores(name, seed):
    values = [random.Random(seed + place).random() for place in range(6)]
    return SequenceScores(name, 8, [ObjectScores(1, NAMES[1:-1], values, values)], 2.5)


def state(seed):
    torch.manual_seed(seed)
    return {
        "iteration": 3,
        "pending": [{"loss": 0.5}],
        "history": [{"iteration": 2, "loss": 0.25}],
        "training": Plain().state_dict(),
        "generator": torch.get_rng_state()[None],
        "record": RECORD,
    }


def make(folder):
    folder.mkdir()
    _keep_settings(folder, RECORD, DATA)
    (folder / DONE).mkdir()
    for name, seed in (("cat", 0), ("dog", 9)):
        write_json(folder / DONE / f"{name}.json", [scores(name, seed)])
    write_state(folder / CHECKPOINT, state(0))


def places(document, path=()):
    yield path
    if isinstance(document, dict | list):
        keys = document if isinstance(document, dict) else range(len(document))
        for key in keys:
            yield from places(document[key], (*path, key))


def edited_value(path, draw):
    document = json.loads(path.read_text())
    *way, last = draw.choice([place for place in places(document) if place])
    holder = document
    for key in way:
        holder = holder[key]
    if draw.random() < 0.3:
        del holder[last]
    else:
        holder[last] = draw.choice(STRANGE)
    path.write_text(json.dumps(document))


def edited_state(path, draw):
    """A whole file, with its right digest, of something else."""
    made = state(1)
    made[draw.choice(list(made))] = draw.choice([*STRANGE, torch.zeros(3)])
    write_state(path, made)


def flipped(path, draw):
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def truncated(path, draw):
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def swapped(path, draw):
    folder = path.parent.parent if path.parent.name == DONE else path.parent
    path.write_bytes((folder / draw.choice(FILES)).read_bytes())


def linked(path, draw):
    path.unlink()
    path.symlink_to(draw.choice(["/dev/zero", "/etc/passwd", "nowhere", path.parent.parent]))


def pipe(path, draw):
    path.unlink()
    os.mkfifo(path)


def folder_instead(path, draw):
    path.unlink()
    path.mkdir()


def nested(path, draw):
    path.write_text(100_000 * "[")


def extra(path, draw):
    (path.parent / f".extra-{draw.random()}").touch()


def read(folder):
    """Read everything that a continued run reads."""
    _keep_settings(folder, RECORD, DATA)
    done = _read_scores(folder, [Clip("cat"), Clip("dog")])
    return done, _restore(Plain(), folder / CHECKPOINT, RECORD)


def snapshot(folder):
    return {p: p.lstat().st_mtime_ns for p in folder.rglob("*")}


def too_long(number, frame):
    raise TimeoutError("reading took more than 20 s")


@pytest.mark.filterwarnings("ignore")
def test_500_edited_runs(tmp_path):
    draw, counts = random.Random(0), collections.Counter()
    make(tmp_path / "whole")
    expected, progress = read(tmp_path / "whole")
    edits = [edited_value, edited_state, flipped, truncated, swapped, linked, pipe, nested, extra,
             folder_instead]  # fmt: skip
    outside = tmp_path / "outside"
    outside.mkdir()
    before = snapshot(outside)
    signal.signal(signal.SIGALRM, too_long)
    for number in range(500):
        edit, folder = edits[number % len(edits)], tmp_path / f"run{number}"
        make(folder)
        files = {edited_value: FILES[:3], edited_state: [CHECKPOINT]}
        path = folder / draw.choice(files.get(edit, FILES))
        edit(path, draw)
        signal.alarm(20)
        try:
            found = read(folder)
        except InputError as error:
            lines = str(error).splitlines()
            if len(lines) != 1:
                pytest.fail(f"{edit.__name__} of {path.name}: {lines}")
            counts[edit.__name__, "refused"] += 1
        else:
            # A whole state of another training with the same record may be resumed.
            if edit is not edited_state:
                # A sequence that is not there is segmented again.
                same = all(expected[name] == each for name, each in found[0].items())
                assert same, (edit.__name__, path.name)
                assert found[1] == progress, (edit.__name__, path.name)
            counts[edit.__name__, "read"] += 1
        finally:
            signal.alarm(0)
    for (name, result), count in sorted(counts.items()):
        print(f"{name:15} {result:8} {count}")
    assert sum(counts.values()) == 500
    assert counts["flipped", "refused"] > 30
    assert snapshot(outside) == before
