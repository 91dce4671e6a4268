"""`innerloop-vos reproduce`: every table and figure, on tiny copies of the real layouts."""

import json
import re
import zipfile
from pathlib import Path

import pytest
import torch
from lwl_tiny import TINY_SIZES, TinyBackbone
from paper_data import write_all
from safetensors.torch import save_file
from test_eosvos_training import network as tiny_eosvos
from torchrun import torchrun

from innerloop_vos.agame.builders import FAMILY as AGAMES
from innerloop_vos.cli import main
from innerloop_vos.cosnet.builders import FAMILY as COSNETS
from innerloop_vos.eosvos import train_command
from innerloop_vos.eosvos.training import WEIGHTS as EOSVOS_WEIGHTS
from innerloop_vos.lwl import lwl_resnet50
from innerloop_vos.lwl.training import command
from innerloop_vos.lwl.training.end_to_end import WEIGHTS as LWL_WEIGHTS
from innerloop_vos.reproduce.tables import read_runs, read_table, table_names
from innerloop_vos.rvos.builders import FAMILY as RVOSES
from innerloop_vos.training.loop import CHECKPOINT

TRAIN = {
    "lwl": "--iterations 2 --batch-size 1 --height 48 --width 64 --held-out= --every 2",
    "e-osvos": "--iterations 1 --batch-size 1 --held-out= "
    "--held-out-steps 1 --inner-steps 1 --every 1",
    "a-game": "--iterations 1 --batch-size 1 --frames 2 --height 48 --width 64 --features 8 "
    "--fastest 1 --paste 0 --held-out= --every 1",
    "rvos": "--iterations 1 --batch-size 1 --frames 2 --height 48 --width 64 --objects 1 "
    "--fastest 1 --held-out= --every 1",
    "cosnet": "--iterations 1 --batch-size 1 --height 48 --width 64 --channels 8 --held-out= "
    "--every 1",
}
EVALUATE = {
    "lwl": "--option output=48,64",
    "e-osvos": "--steps 1 --option online_steps=1 --option copies=1 --option proposals=20 "
    "--option propagated=20",
    "a-game": "--option short_side=48",
    "rvos": "--option short_side=48",
    "cosnet": "--option short_side=48",
}


LWL_VALID = "--sequences aaaaaaaaaa,bbbbbbbbbb"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def tiny_networks(monkeypatch, tiny_backbone, tmp_path):
    """Trainings of both methods start from tiny networks; returns the file of LWL's backbone."""

    def build(*, weights, norm, mask_loss, frozen_layers):
        return tiny_eosvos(norm=norm, mask_loss=mask_loss, frozen_layers=frozen_layers)

    def build_lwl(**sizes):
        small = {name: size for name, size in TINY_SIZES.items() if name != "outputs"}
        return lwl_resnet50(**small, **sizes)

    monkeypatch.setattr(train_command, "eosvos_resnet50", build)
    monkeypatch.setattr(command, "lwl_resnet50", build_lwl)
    torch.manual_seed(2)
    path = tmp_path / "backbone.safetensors"
    save_file(TinyBackbone().state_dict(), path)
    return path


def reproduce(table, out, data, backbone, named="", *more):
    method = next(name for name in TRAIN if table.startswith(name))
    train = TRAIN[method] + (" --backbone-style caffe" if method == "lwl" else "")
    words = ["reproduce", table, "--out", out, "--device", "cpu"]
    words += [word for name, root in data.items() for word in (f"--{name}", root)]
    words += ["--mask-rcnn", backbone, "--imagenet", backbone, "--train-with", train]
    words += ["--evaluate-with", f"{EVALUATE[method]} {named}", *more]
    return main([str(word) for word in words])


def sequences(table):
    """Those of the tiny data, where a table names some."""
    if "lwl-valid" in table.columns:
        return LWL_VALID
    return "--sequences goat" if any("--sequences" in row.words for row in table.rows) else ""


@pytest.mark.parametrize("name", table_names())
def test_every_table(data, out, tiny_networks, name, capsys):
    table = read_table(name)
    assert reproduce(name, out, data, tiny_networks, sequences(table)) == 0
    printed = capsys.readouterr().out
    document = json.loads((out / f"{name}.json").read_text())
    assert document["title"] == table.title
    rows = {row["name"]: row for row in document["rows"]}
    assert list(rows) == [row.name for row in table.rows]
    for row in table.rows:
        for measure in row.trainings:
            values = rows[row.name]["measured"][measure] if table.columns[measure] else []
            assert len(values) == len(table.columns[measure])
            for column, value in zip(table.columns[measure], values, strict=True):
                # Only the servers of the benchmarks have the annotations.
                public = measure not in (
                    "davis2017-test-dev",
                    "youtube-vos-2018",
                    "youtube-vos-2019",
                )
                assert (value is not None) == (public or column == "FPS"), (row.name, column)
                if column in ("J", "F", "J&F"):
                    assert value is None or 0 <= value <= 100
    assert (out / f"{name}.png").exists() == bool(table.curve or table.pictures)
    for row in table.rows:
        if any(table.columns.values()):
            assert row.name.split()[0] in printed


def test_tables_share_their_runs(data, out, tiny_networks, capsys):
    assert reproduce("lwl-table8", out, data, tiny_networks, LWL_VALID) == 0
    folder = out / "trainings" / "lwl-short"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert reproduce("lwl-table8", out, data, tiny_networks, LWL_VALID) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")} == before
    assert "--resume" in capsys.readouterr().out


def test_the_files_of_weights_are_those_of_the_trainings():
    names = {name: method.weights for name, method in read_runs()[2].items()}
    folded = {"a-game": AGAMES.file, "rvos": RVOSES.file, "cosnet": COSNETS.file}
    assert names == {"lwl": LWL_WEIGHTS, "e-osvos": EOSVOS_WEIGHTS} | folded


def test_all_trainings_and_measurements_are_used_and_there():
    trainings, measures, _ = read_runs()
    tables = [read_table(name) for name in table_names()]
    used = {
        training for table in tables for row in table.rows for training in row.trainings.values()
    }
    used |= {trainings[name].after for name in trainings}
    assert used - {None} == trainings.keys()
    assert {measure for table in tables for measure in table.columns} == measures.keys()
    for table in tables:
        for row in table.rows:
            for measure, values in row.paper.items():
                assert len(values) <= len(table.columns[measure])
        assert len({row.name for row in table.rows}) == len(table.rows), table.name


def test_submissions_are_packed(data, out, tiny_networks):
    assert reproduce("lwl-table5", out, data, tiny_networks) == 0
    with zipfile.ZipFile(out / "results" / "lwl" / "youtube-vos-2019.zip") as archive:
        assert "Annotations/cccccccccc/00005.png" in archive.namelist()


def words_of(capsys, *words):
    assert main(["reproduce", *words, "--print-commands"]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_commands_are_printed_and_nothing_is_made(tmp_path, capsys):
    words = ["--youtube-vos", "Y", "--davis", "D", "--mask-rcnn", "M", "--out", str(tmp_path / "x")]
    short, long_, evaluated = words_of(capsys, "lwl-table8", *words, "--use", "lwl-stage1=W")[:3]
    assert short.startswith("innerloop-vos train lwl --config lwl-released-ablation")
    assert "--config lwl-released-stage2 --init W" in long_
    assert evaluated.endswith(f"--out {tmp_path / 'x' / 'results' / 'lwl-short' / 'lwl-valid'}")
    assert "lwl-paper-ablation" in words_of(capsys, "lwl-table8", *words, "--variant", "paper")[0]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lwl-table10"], "TABLE: 'lwl-table10', should be one of a-game-table1, cosnet-table1"),
        (["lwl-table8"], "--mask-rcnn: lwl-table8 needs it"),
        (["lwl-table8", "--mask-rcnn", "M"], "--youtube-vos: lwl-table8 needs it"),
        (["lwl-table8", "--use", "lwl"], "--use: 'lwl', should be TRAINING=FILE"),
        (["lwl-table8", "--use", "x=y"], "--use: there is no training 'x'; there are lwl-short"),
        (["lwl-table8", "--train-with", "'"], '--train-with: "\'": No closing quotation'),
        (["lwl-table8", "--small"], "--davis: lwl-table8 needs it"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(tmp_path, capsys, words, message):
    assert main(["reproduce", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--coco", "nowhere"], "--coco: there is no nowhere"),
        (["--use", "lwl=nowhere.safetensors"], "--use lwl: there is no nowhere.safetensors"),
        (["--evaluate-with", "--sequences zebra"], "sequence 'zebra' is missing"),
        (["--evaluate-with", "--split nosuch"], "nosuch"),
        (["--out", "DATA/DAVIS/JPEGImages/new"], "which is read as --davis"),
    ],
)
def test_what_is_read_last_is_checked_before_anything_runs(
    data, tiny_networks, tmp_path, capsys, more, message
):
    more = [word.replace("DATA", str(data["davis"].parent)) for word in more]
    out = tmp_path / "out"
    assert reproduce("lwl-table3", out, data, tiny_networks, "", *more) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_an_option_that_is_unknown_stops_before_anything_runs(data, tiny_networks, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        reproduce("lwl-table3", tmp_path / "out", data, tiny_networks, "", "--train-with", "--no")
    assert stopped.value.code == 2
    assert not (tmp_path / "out").exists()


def test_a_figure_is_taken_from_the_scores(data, out, tiny_networks):
    assert reproduce("lwl-table9", out, data, tiny_networks, LWL_VALID) == 0
    row, _ = json.loads((out / "lwl-table9.json").read_text())["rows"]
    scores = json.loads((out / "results" / "lwl" / "lwl-valid" / "scores.json").read_text())
    assert row["measured"]["lwl-valid"] == [pytest.approx(100 * scores["mean"]["J-Mean"])]
    assert row["paper"] == {"lwl-valid": [81.2]}


def test_the_best_of_a_search_counts(data, out, tiny_networks):
    assert reproduce("e-osvos-table1", out, data, tiny_networks) == 0
    rows = json.loads((out / "e-osvos-table1.json").read_text())["rows"]
    found = [
        100 * sum(json.loads(path.read_text())["mean"][f"{name}-Mean"] for name in "JF") / 2
        for path in (out / "results" / "e-osvos-parent").glob("*_steps_10_*/scores.json")
    ]
    assert len(found) == 5
    assert rows[0]["measured"]["davis2017"] == [pytest.approx(max(found))]


def test_the_page_lists_every_table():
    page = (Path(__file__).parents[1] / "docs" / "reproducing.md").read_text()
    rows = [line.split("|")[2].strip(" `") for line in page.splitlines() if line.startswith("| ")]
    listed = {row for row in rows if re.fullmatch(r"[a-z-]+-(table|figure|runtime)\w*", row)}
    assert listed == set(table_names())
    for name in listed:
        line = next(line for line in page.splitlines() if f"`{name}`" in line)
        needed = {word.strip() for word in line.split("|")[3].split(",")}
        assert needed == needs(read_table(name)), name


def needs(table):
    """The options that a table cannot do without."""
    trainings, measures, _ = read_runs()
    found = set()
    for row in table.rows:
        for measure, name in row.trainings.items():
            found.add(measures[measure].data)
            while name:
                training = trainings[name]
                found |= set(training.data) | set(
                    re.findall(r"{([\w-]+)}", " ".join(training.start))
                )
                name = training.after
    return found - {"detector"}


SMALL = "--iterations 1 --every 1 --height 48 --width 64 --held-out-frames 3 --test-frames 1"


@pytest.mark.slow
def test_two_processes_share_a_small_table(data, tmp_path):
    out = tmp_path / "out"
    words = ["reproduce", "lwl-table9", "--small", "--davis", data["davis"], "--out", out]
    words += ["--device", "cpu", "--train-with", SMALL, "--evaluate-with", "--option output=48,64"]
    torchrun("-m", "innerloop_vos.cli", *words)
    assert len(torch.load(out / "trainings" / "lwl" / CHECKPOINT)["generator"]) == 2
    rows = json.loads((out / "lwl-table9.json").read_text())["rows"]
    assert all(0 <= row["measured"]["lwl-valid"][0] <= 100 for row in rows)
    settings = json.loads((out / "results" / "lwl" / "lwl-valid" / "settings.json").read_text())
    assert set(settings["data"]) == {"cow", "dog"}
