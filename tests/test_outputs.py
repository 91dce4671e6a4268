"""No command writes over what it reads: refused before any work, through links of both kinds."""

import hashlib
import os
from pathlib import Path

import pytest
from davis_layout import write_davis

from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.commands.outputs import check_outputs, check_strays

ROOT = "data"
TRUTH = f"{ROOT}/Annotations/480p"
LIST = f"{ROOT}/ImageSets/480p/val.txt"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a data set, weights that are read, and links to these."""
    monkeypatch.chdir(tmp_path)
    write_davis(Path(ROOT), ["bear"], length=3)
    Path(LIST).parent.mkdir(parents=True, exist_ok=True)
    Path(LIST).write_text("bear\n")
    Path("w.safetensors").write_bytes(b"weights")
    Path("linked").symlink_to(TRUTH)
    Path("linked.csv").symlink_to(LIST)
    os.link(LIST, "hard.csv")
    Path("part").mkdir()
    Path("part/bear").symlink_to(Path(TRUTH, "bear").resolve())
    Path("files/bear").mkdir(parents=True)
    Path("files/bear/00001.png").symlink_to(Path(TRUTH, "bear/00001.png").resolve())
    Path("over/lwl.safetensors").parent.mkdir()
    Path("over/lwl.safetensors").write_bytes(b"weights")
    Path("over/e-osvos.safetensors").symlink_to("../w.safetensors")
    Path("over/curve.json").write_text("{}")
    return tmp_path


def state(folder):
    """All that is in a folder: links by where they lead, files by their content."""
    return {
        path: os.readlink(path)
        if path.is_symlink()
        else path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


EVALUATE = ["evaluate", "--root", ROOT, "--method", "ridge", "--out"]
SCORE = ["score", TRUTH, "--root", ROOT]
TRAIN = ["train", "lwl", "--stage", "1", "--davis", ROOT]
FINE_TUNE = ["train", "e-osvos", "--phase", "davis", "--davis", ROOT]


@pytest.mark.parametrize(
    "arguments",
    [
        *([*EVALUATE, out] for out in (TRUTH, "linked", "part", "files", f"{TRUTH}/bear")),
        *([*EVALUATE, out] for out in (f"{ROOT}/JPEGImages/480p", f"{ROOT}/Annotations/new")),
        [*EVALUATE, "out", "--csv", LIST],
        [*EVALUATE, "out", "--csv", "linked.csv"],
        [*EVALUATE, "out", "--json", "hard.csv"],
        [*EVALUATE, "out", "--json", "w.safetensors", "--weights", "w.safetensors"],
        [*EVALUATE, "out", "--json", "out/scores.json"],
        [*EVALUATE, "out", "--csv", "out/bear/00001.png"],
        [*SCORE, "--csv", f"{TRUTH}/bear/00000.png"],
        [*SCORE, "--json", f"{ROOT}/JPEGImages/480p/bear/00000.jpg"],
        [*SCORE, "--csv", "linked.csv"],
        [*SCORE, "--json", "hard.csv"],
        ["score", "part", "--root", "data", "--csv", f"{TRUTH}/bear/scores.csv"],
        [*TRAIN, "--out", f"{ROOT}/Annotations"],
        [*TRAIN, "--out", "linked"],
        [*TRAIN, "--out", "over", "--init", "over/lwl.safetensors"],
        [*TRAIN, "--out", "over", "--backbone-weights", "over/lwl.safetensors"],
        [*FINE_TUNE, "--out", "over", "--init", "w.safetensors"],
        ["train", "backbone", "--root", ROOT, "--teacher", "over/curve.json", "--out", "over"],
        ["convert", "lwl", "w.safetensors", "w.safetensors"],
        ["convert", "e-osvos", "w.safetensors", "over/e-osvos.safetensors"],
        ["demo", "--method", "ridge", "--weights", "demo/overlay.mp4"],
    ],
    ids=" ".join,
)
def test_what_is_read_is_not_written_over(folder, capsys, arguments):
    before = state(folder)
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(("innerloop-vos: error: --", "innerloop-vos: error: OUT")), error
    assert "choose another place" in error
    assert state(folder) == before


def test_other_places_are_allowed_also_beside_the_data(folder):
    outputs = {"--out": [f"{ROOT}/Results", "new/masks"], "--csv": ["/dev/null", None]}
    trees = {"--root": [TRUTH, f"{ROOT}/JPEGImages"], "--none": [None]}
    check_outputs(outputs, {"--weights": ["w.safetensors", "missing", None]}, trees)


def test_links_in_a_data_set_that_lead_in_circles_end(folder):
    Path(TRUTH, "again").symlink_to(folder.resolve() / ROOT)
    check_outputs({"--out": ["new"]}, {}, {"--root": [ROOT]})
    with pytest.raises(InputError, match=r"--out: .* lies in .*JPEGImages"):
        check_outputs({"--out": [f"{ROOT}/JPEGImages/x"]}, {}, {"--root": [TRUTH]})


def test_masks_of_another_clip_are_not_left_among_new_ones(folder):
    check_strays("--out", f"{TRUTH}/bear", ["00000", "00001", "00002", "00003"], [])
    check_strays("--out", f"{TRUTH}/bear", ["00000", "00001"], [Path(TRUTH, "bear/00002.png")])
    with pytest.raises(InputError, match=r"--out: .* 1 other images, such as 00002.png"):
        check_strays("--out", f"{TRUTH}/bear", ["00000", "00001"], [])
