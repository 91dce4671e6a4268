"""`evaluate --methods`: methods one after the other, in one table, beside published systems."""

import csv
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from davis_layout import write_davis
from torch import nn

from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.commands import evaluate, methods_table
from innerloop_vos.commands.parser import parse
from innerloop_vos.comparison.drawing import drawn
from innerloop_vos.comparison.rows import Row, count_parameters, measured, published
from innerloop_vos.published import read_published
from innerloop_vos.runs import memory, signals
from innerloop_vos.runs.folder import text_digest
from innerloop_vos.scoring import ObjectScores, SequenceScores, read_json, write_json
from innerloop_vos.unsupervised import UnsupervisedSegmenter

SMALL = "ridge --backbone small"
OTHER = "ridge --backbone small --solver conjugate-gradient"
SEVEN = "blackswan car-shadow dance-twirl drift-straight horsejump-high libby scooter-black"


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("data") / "DAVIS", ["cat", "dog"], length=4)


@pytest.fixture
def words(davis, tmp_path):
    """Compares the methods that are appended."""
    out = tmp_path / "out"
    return ["evaluate", "--root", str(davis), "--split", "train", "--out", str(out), "--methods"]


@pytest.fixture
def called(monkeypatch):
    """The commands of the methods, which run in this process."""
    commands = []

    def call(command):
        assert command[:3] == (sys.executable, "-m", "innerloop_vos.cli")
        commands.append(command[3:])
        return main(command[3:])

    monkeypatch.setattr(methods_table, "call", call)
    return commands


def test_a_method_in_its_own_process(davis, words, tmp_path, capfd, monkeypatch):
    table = tmp_path / "table.csv"
    copy = tmp_path / "table.json"
    assert main([*words, SMALL, "--csv", str(table), "--json", str(copy)]) == 0
    printed = capfd.readouterr()
    assert "ridge --backbone small (1 of 1)" in printed.out
    assert "cat: 100%" in printed.err
    assert "docs/published.md" in printed.out

    out = tmp_path / "out"
    assert (out / "comparison.png").stat().st_size > 10_000
    assert copy.read_text() == (out / "comparison.json").read_text()
    (row,) = json.loads(copy.read_text())["rows"]
    (line,) = csv.DictReader(table.open())
    mean = json.loads((out / "ridge-backbone-small/scores.json").read_text())["mean"]
    for name, column in (("J", "J-Mean"), ("F", "F-Mean"), ("J decay", "J-Decay")):
        assert row["quality"][name] == pytest.approx(100 * mean[column])
        assert float(line[column]) == pytest.approx(mean[column], abs=1e-6)
    assert row["name"] == line["Method"] == SMALL
    assert row["task"] == line["Task"] == "semi-supervised"
    assert row["speed"] == pytest.approx(mean["FPS"])
    assert int(line["Memory"]) == row["memory"] > 1e8  # torch alone takes more
    assert int(line["Parameters"]) == row["parameters"] > 1e5

    # The folder is that of `evaluate --method`, which has nothing left to do.
    monkeypatch.setattr(evaluate, "_evaluate", None)
    one = ["evaluate", "--root", str(davis), "--split", "train", "--method", "ridge"]
    one += ["--out", str(out / "ridge-backbone-small")]
    assert main([*one, "--backbone", "small"]) == 0
    assert main([*one, "--backbone", "mobilenet_v2"]) == 2


def test_a_stopped_comparison_goes_on(words, tmp_path, capsys, monkeypatch, called):
    run = methods_table.call

    def stop_in_the_second(command):
        if "--solver" in command:
            os.kill(os.getpid(), signal.SIGTERM)
        return run(command)

    with monkeypatch.context() as patch:
        patch.setattr(methods_table, "call", stop_in_the_second)
        assert main([*words, f"{SMALL},{OTHER}"]) == 143
    out = tmp_path / "out"
    assert [path.name for path in out.iterdir()] == ["ridge-backbone-small"]
    assert "interrupted" in capsys.readouterr().err
    done = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(done) == 8
    assert main([*words, f"{SMALL},{OTHER}"]) == 0
    assert all(path.stat().st_mtime_ns == at for path, at in done.items())
    assert len(called) == 3
    rows = json.loads((out / "comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [SMALL, OTHER]
    assert rows[0]["parameters"] == rows[1]["parameters"]
    assert rows[0]["quality"] != rows[1]["quality"]


def test_a_signal_ends_the_running_command_before_the_comparison(tmp_path):
    program = (
        "import signal, sys, time, pathlib\n"
        "def stop(*_):\n"
        "    time.sleep(0.3)\n"
        "    pathlib.Path(sys.argv[1], 'stopped').touch()\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "pathlib.Path(sys.argv[1], 'started').touch()\n"
        "time.sleep(60)\n"
    )

    def interrupt():
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with signals.raised(), pytest.raises(KeyboardInterrupt):
        methods_table.call((sys.executable, "-c", program, str(tmp_path)))
    thread.join()
    assert (tmp_path / "stopped").exists()


def test_exit_codes_and_what_is_printed(capfd):
    assert methods_table.call((sys.executable, "-c", "print('a table'); exit(3)")) == 3
    assert capfd.readouterr().out == ""


def test_a_method_that_fails_is_named(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(methods_table, "call", lambda command: -9)
    assert main([*words, f"{SMALL},{OTHER}"]) == 2
    assert f"{SMALL}: its evaluation ended with exit code -9" in capsys.readouterr().err
    assert not (tmp_path / "out" / "comparison.json").exists()


@pytest.mark.parametrize(
    ("methods", "more", "message"),
    [
        (f"{SMALL},lwl --option capacity=4", [], "lwl --option capacity=4: weights: lwl needs"),
        (f"{SMALL},nosuch", [], "nosuch: method: 'nosuch' is unknown"),
        ("ridge", ["--weights", "w.pth"], "--weights is of one method: write it behind its name"),
        ("ridge", ["--option", "min_area=3"], "--option is of one method"),
        ("ridge", ["--steps", "3"], "--steps is of one method"),
        ("ridge --split val", [], "ridge --split val: --split is for all methods"),
        ("ridge --csv x.csv", [], "--csv is for all methods"),
        (f"{SMALL},lwl-lite,{SMALL}", [], "ridge --backbone small is there twice"),
        ("lwl,lwl-lite", [], "lwl-lite is there twice"),
        ("ridge, ,lwl-lite", [], "should be names with commas between them"),
        ("", [], "should be names with commas between them"),
        ("ridge --backbone 'small", [], "No closing quotation"),
        ("ridge", ["--submission", "x.zip"], "--submission is of one method"),
        (SMALL, ["--csv", "{out}/comparison.json"], "comparison.json is read too"),
        (SMALL, ["--json", "{out}/ridge-backbone-small/x.json"], "which is read as --out"),
        (SMALL, ["--device", "nosuch"], "device: 'nosuch' cannot be used"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    words, tmp_path, capsys, called, methods, more, message
):
    out = tmp_path / "out"
    (out / "ridge-backbone-small").mkdir(parents=True)
    assert main([*words, methods, *(word.format(out=out) for word in more)]) == 2
    assert message in capsys.readouterr().err
    assert called == []


def test_method_and_methods_exclude_each_other(words):
    with pytest.raises(SystemExit):
        parse([*words, "ridge", "--method", "ridge"])


def test_processes_of_torchrun_are_refused(words, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*words, SMALL]) == 2
    assert "--methods is for one process" in capsys.readouterr().err


def test_options_of_the_data_go_to_every_method(words):
    more = ["--boxes", "--sequences", "cat", "--resolution", "480p", "--device", "cpu"]
    arguments = parse([*words, "ridge,lwl-lite --option 'output=48,64' --speed fast", *more])
    ridge, lite = methods_table._entries(arguments)
    assert lite.arguments.option == ["output=48,64"]
    assert (ridge.arguments.speed, lite.arguments.speed) == (None, "fast")
    for entry in (ridge, lite):
        assert (entry.arguments.root, entry.arguments.split) == (arguments.root, "train")
        assert (entry.arguments.sequences, entry.arguments.resolution) == ("cat", "480p")
        assert (entry.arguments.boxes, entry.arguments.device) == (True, "cpu")
        assert entry.arguments.methods is None
        assert entry.out.parent == methods_table.Path(arguments.out)


def test_lwl_without_weights_is_lwl_lite_by_name(words, capsys):
    bare, given = methods_table._entries(parse([*words, "lwl,lwl --weights lwl.pth"]))
    assert (bare.label, bare.arguments.method) == ("lwl-lite", "lwl-lite")
    assert (given.arguments.method, given.arguments.weights) == ("lwl", "lwl.pth")
    assert "lwl-lite, whose weights ship, takes its place" in capsys.readouterr().out


class Everything(UnsupervisedSegmenter):
    """Finds that all pixels are one object."""

    def __init__(self, options, weights, device):
        super().__init__(device)
        self.network = nn.Linear(3, 4)

    def begin(self, frames):
        pass

    def find(self, frame):
        return torch.ones(frame.shape[1:], dtype=torch.uint8)


def test_methods_without_masks_stand_in_the_same_table(words, tmp_path, capsys, called):
    everything = "test_methods_table:Everything --task unsupervised"
    assert main([*words, f"{SMALL},{everything}"]) == 0
    assert "unsupervised methods are scored on all frames" in capsys.readouterr().out
    small, found = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    assert (small["task"], found["task"]) == ("semi-supervised", "unsupervised")
    assert found["parameters"] == 4 * 3 + 4
    (path,) = (tmp_path / "out").glob("*Everything*/scores.json")
    # All four frames count, where the first is given and the last left out otherwise.
    assert [len(each.objects[0].frames) for each in read_json(path)] == [4, 4]
    assert main([*words, f"{SMALL},{everything}", "--boxes"]) == 2
    assert "starts from nothing" in capsys.readouterr().err


def test_the_task_is_that_of_the_method(words):
    cosnet, ridge = methods_table._entries(parse([*words, "cosnet,ridge"]))
    assert (cosnet.arguments.task, ridge.arguments.task) == ("unsupervised", "semi-supervised")


def scores(name, region, contour, **more):
    frames = [f"{index:05d}" for index in range(len(region))]
    objects = [ObjectScores(1, frames, region, contour)]
    return SequenceScores(name, len(region) + 2, objects, **more)


def test_a_row_has_the_means_over_objects():
    rising, flat = [0.2, 0.4, 0.6, 0.8], [0.5] * 4
    done = [
        scores("cat", rising, flat, seconds=3.0, memory=70),
        scores("dog", flat, flat, seconds=1.0, memory=90),
    ]
    row = measured("ridge", "semi-supervised", done, 12)
    # Bins of the decay share a frame: the first two and the last two.
    assert row.quality == pytest.approx({"J": 50, "F": 50, "J&F": 50, "J decay": (30 - 70) / 2})
    assert (row.speed, row.memory, row.parameters) == (12 / 4, 90, 12)
    bare = measured("ridge", "semi-supervised", [SequenceScores("cat", 6, [])], 12)
    assert (bare.quality, bare.speed, bare.memory) == ({}, None, None)


def test_parameters_are_counted_once():
    shared = nn.Linear(3, 2)
    segmenter = SimpleNamespace(a=nn.Sequential(shared, nn.Linear(2, 5)), b=shared, c="text")
    assert count_parameters(segmenter) == (3 * 2 + 2) + (2 * 5 + 5)


def reported(names, capsys, tmp_path, **more):
    """What is printed and written of a method that was measured on some sequences."""
    given = ["evaluate", "--root", "D", "--methods", "ridge", "--out", str(tmp_path)]
    arguments = parse([*given, *(word for pair in more.items() for word in pair)])
    row = Row("ridge", "semi-supervised", {"J": 50.0, "F": 60.0, "J&F": 55.0}, 2.0)
    methods_table._report([row], SimpleNamespace(names=names), arguments)
    rows = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    return capsys.readouterr().out, rows


def test_published_systems_stand_below_only_on_the_same_sequences(capsys, tmp_path):
    printed, rows = reported(SEVEN.split(), capsys, tmp_path)
    assert [row["source"] for row in rows] == ["", *["site"] * 6]
    stm = next(row for row in rows if row["name"] == "STM")
    assert stm["quality"] == {"J": 91.4, "F": 94.0, "J&F": 92.7, "J decay": 3.8}
    assert "STM" in printed
    assert "no paper has figures of just these sequences" in printed

    val = sorted(read_published().splits[0].sequences)
    printed, rows = reported(val, capsys, tmp_path)
    assert {"a-game Table 4", "e-osvos Table 2", "cosnet Table 3"} < {r["source"] for r in rows}
    cosnet = next(row for row in rows if row["name"] == "COSNet")
    assert cosnet["task"] == "unsupervised"
    assert cosnet["quality"]["J&F"] == pytest.approx((80.5 + 79.4) / 2)
    assert "papers' hardware" in printed

    for names, more in ((val[1:], {}), (val, {"--resolution": "1080p"})):
        printed, rows = reported(names, capsys, tmp_path, **more)
        assert [row["name"] for row in rows] == ["ridge"]
        assert "docs/published.md" in printed


def test_the_picture_has_quality_over_the_logarithm_of_speed():
    mine = Row("ridge", "semi-supervised", {"J&F": 55.0}, 2.0)
    unknown = replace(mine, name="no speed", speed=None)
    others = published(
        read_published().references("davis2016", read_published().splits[0].sequences)
    )
    (axes,) = drawn([mine, unknown, *others], "title").axes
    assert axes.get_xscale() == "log"
    names = [text.get_text() for text in axes.texts]
    assert names[0] == "ridge"
    assert {"STM", "A-GAME", "e-OSVOS-50"} < set(names)
    assert {"no speed", "VideoMatch", "COSNet"}.isdisjoint(names)  # without speed, or without J&F
    assert names.count("OSVOS") == 1  # two papers agree
    assert axes.collections[0].get_offsets().tolist() == [[2.0, 55.0]]
    (axes,) = drawn([unknown], "title").axes
    assert not axes.collections


@pytest.mark.skipif(not memory._STATUS.exists(), reason="needs /proc/self/status")
def test_peak_memory_is_at_least_what_is_held(monkeypatch):
    held = torch.ones(25_000_000)
    resident = int(memory.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGESIZE"
    )
    peak = memory.peak_memory(torch.device("cpu"))
    assert peak >= 0.98 * resident > held.nbytes
    monkeypatch.setattr(memory, "_STATUS", memory.Path("nosuch"))
    assert memory.peak_memory(torch.device("cpu")) is None


def test_memory_is_kept_with_the_scores(tmp_path):
    path = tmp_path / "scores.json"
    kept = scores("cat", [0.5], [0.5], memory=10**9)
    write_json(path, [kept])
    assert read_json(path) == [kept]

    def written(change):
        document = json.loads(path.read_text())
        entry = document["sequences"]["cat"]
        change(entry)
        del entry["digest"]
        entry["digest"] = text_digest(["cat", entry])
        (tmp_path / "changed.json").write_text(json.dumps(document))
        return read_json(tmp_path / "changed.json")

    # Files of earlier versions have none.
    assert written(lambda entry: entry.pop("memory")) == [replace(kept, memory=None)]
    with pytest.raises(InputError, match="memory -1"):
        written(lambda entry: entry.update(memory=-1))
