"""The commands from end to end on small clips, and every kind of bad input."""

import csv
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from innerloop_vos.cli import main
from innerloop_vos.commands import convert, demo, evaluate
from innerloop_vos.data import synthetic_clip
from innerloop_vos.io.masks import PALETTE, box_to_mask, mask_to_box, read_mask, write_mask
from innerloop_vos.io.video import open_frames, write_video

SIZE = (96, 160)
LENGTH = 4
RIDGE = {"--method": "ridge"}


def write_davis(root, names=("first", "second")):
    """A data set of single-object clips in the layout of DAVIS 2016."""
    for seed, name in enumerate(names):
        frames, masks = synthetic_clip(length=LENGTH, size=SIZE, objects=1, seed=seed)
        images, annotations = (
            root / part / "480p" / name for part in ("JPEGImages", "Annotations")
        )
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for index in range(LENGTH):
            picture = Image.fromarray(frames[index].permute(1, 2, 0).numpy())
            picture.save(images / f"{index:05d}.jpg", quality=95)
            Image.fromarray(255 * masks[index].numpy()).save(annotations / f"{index:05d}.png")
    lists = root / "ImageSets" / "480p"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def davis(tmp_path):
    root = tmp_path / "DAVIS"
    write_davis(root)
    return root


@pytest.fixture
def clip(davis):
    """A folder of frames and the mask of its first."""
    return (
        davis / "JPEGImages" / "480p" / "first",
        davis / "Annotations" / "480p" / "first" / "00000.png",
    )


def files(folder):
    return sorted(p for p in Path(folder).rglob("*") if p.is_file())


def test_segment_writes_palette_masks_and_an_overlay(clip, tmp_path, capsys):
    frames, mask = clip
    out, overlay = tmp_path / "out", tmp_path / "overlay.mp4"
    code = main(
        ["segment", str(frames), "--mask", str(mask), "--out", str(out), "--overlay", str(overlay)]
    )
    assert code == 0
    assert [path.name for path in files(out)] == [f"{i:05d}.png" for i in range(LENGTH)]
    first = Image.open(out / "00000.png")
    assert first.mode == "P"
    assert first.getpalette()[3:6] == PALETTE[1].tolist()
    assert torch.equal(read_mask(out / "00000.png"), read_mask(mask))
    assert read_mask(out / "00003.png").any()
    assert len(open_frames(overlay)) == LENGTH
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "solver"), [("lwl-lite", "steepest-descent"), ("ridge", "conjugate-gradient")]
)
def test_segment_with_a_box_and_another_solver(clip, tmp_path, method, solver):
    out = tmp_path / "out"
    arguments = ["--box", "20,20,60,50", "--out", str(out), "--method", method, "--solver", solver]
    assert main(["segment", str(clip[0]), *arguments]) == 0
    assert len(files(out)) == LENGTH


def test_every_box_is_an_object(clip, tmp_path, capsys):
    boxes = ["--box", "10,10,40,40", "--box", "90,40,50,40", "--box", "60,10,20,20"]
    out = tmp_path / "out"
    assert main(["segment", str(clip[0]), *boxes, "--out", str(out), "--method", "ridge"]) == 0
    assert re.search(r"3 objects: 1 \([\d,]+ pixels\), 2 \(", capsys.readouterr().out)
    labels = read_mask(out / "00000.png")
    assert labels.unique().tolist() == [0, 1, 2, 3]
    assert set(labels[10:50, 10:50].unique().tolist()) == {0, 1} or labels[10:50, 10:50].eq(1).all()

    again = ["--box", "10,10,40,40", "--box", "10,10,40,40"]
    assert main(["segment", str(clip[0]), *again, "--out", str(out), "--method", "ridge"]) == 2
    assert "no object of its own was found in this box" in capsys.readouterr().err


def test_warnings_are_one_line_without_the_program(clip, tmp_path, capsys):
    (clip[0] / "00003.jpg").rename(clip[0] / "00007.jpg")
    before = warnings.formatwarning

    def show(*warning):  # as Python does, where pytest keeps them for its summary
        sys.stderr.write(warnings.formatwarning(*warning[:4]))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        assert (
            main(["segment", str(clip[0]), "--box", "1,1,0,9", "--out", str(tmp_path / "o")]) == 2
        )
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"innerloop-vos: warning: frame .*00003.jpg may be missing: .*", first)
    assert second.startswith("innerloop-vos: error: box")
    assert warnings.formatwarning is before


def test_names_of_a_checkpoint_are_shown_without_control_characters(capsys):
    convert._report_left(["head.weight", "\x1b[2Jgone", "one\ntwo"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert line.startswith("no place for 3 tensors: head.weight, ")


def test_segment_a_video_file(clip, tmp_path):
    video = tmp_path / "clip.mp4"
    write_video(video, open_frames(clip[0]), rate=12)
    out = tmp_path / "out"
    assert main(["segment", str(video), "--mask", str(clip[1]), "--out", str(out)]) == 0
    assert len(files(out)) == LENGTH


def test_evaluate_scores_resumes_and_agrees_with_score(davis, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    arguments = ["evaluate", "--root", str(davis), "--split", "val", "--out", str(out)]
    assert main([*arguments, "--sequences", "second"]) == 0
    done = files(out / "second")
    assert len(done) == LENGTH
    before = [path.stat().st_mtime_ns for path in done]

    assert main([*arguments, "--csv", str(tmp_path / "scores.csv")]) == 0
    assert [path.stat().st_mtime_ns for path in done] == before
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["Sequence"] for row in rows] == ["first", "second", "mean"]
    assert float(rows[0]["FPS"]) > 0

    capsys.readouterr()
    report = tmp_path / "scores.json"
    assert main(["score", str(out), "--root", str(davis), "--json", str(report)]) == 0
    scores = json.loads(report.read_text())
    assert scores["mean"]["J-Mean"] == pytest.approx(float(rows[2]["J-Mean"]), abs=1e-6)
    assert "J&F" in capsys.readouterr().out

    # Everything is done: nothing is segmented again, and other settings are refused.
    monkeypatch.setattr(evaluate, "_evaluate", None)
    assert main(arguments) == 0
    assert main([*arguments, "--solver", "exact"]) == 2
    assert "holds a run with" in capsys.readouterr().err


def test_evaluate_where_only_first_masks_are_known(davis, tmp_path, capsys):
    for path in (davis / "Annotations/480p/first").glob("*[1-9].png"):
        path.unlink()
    out, table, report = tmp_path / "run", tmp_path / "scores.csv", tmp_path / "scores.json"
    arguments = ["evaluate", "--root", str(davis), "--method", "ridge", "--out", str(out)]
    arguments += ["--csv", str(table), "--json", str(report)]
    for _ in range(2):  # the second time nothing is left to do
        assert main([*arguments, "--sequences", "first"]) == 0
        assert "nothing can be scored in first" in capsys.readouterr().out
        assert json.loads(report.read_text())["mean"]["J-Mean"] is None
    assert len(files(out / "first")) == LENGTH

    assert main(arguments) == 0
    assert "nothing can be scored in first:" in capsys.readouterr().out
    rows = {row["Sequence"]: row for row in csv.DictReader(table.open())}
    assert rows["first"]["J-Mean"] == ""
    assert rows["mean"]["J-Mean"] == rows["second"]["J-Mean"] != ""


def test_evaluate_from_boxes(davis, tmp_path):
    common = ["evaluate", "--root", str(davis), "--split", "val", "--sequences", "second"]
    arguments = [*common, "--method", "ridge", "--boxes", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    found = read_mask(tmp_path / "run" / "second" / "00000.png") > 0
    truth = Image.open(davis / "Annotations" / "480p" / "second" / "00000.png")
    inside = box_to_mask(mask_to_box(torch.from_numpy(np.array(truth)) > 0), SIZE) > 0
    assert found.any()
    assert not torch.equal(found, torch.from_numpy(np.array(truth)) > 0)
    assert (found & ~inside).sum() == 0


def test_demo(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "_LENGTH", 8)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    for path in ("overlay.mp4", "contact_sheet.png", "Results/photographs"):
        assert str(out / path) in printed
        assert (out / path).exists()


def nan_weights(folder):
    source = Path(evaluate.__file__).parents[1] / "backbones" / "small.safetensors"
    state = load_file(source)
    first = next(iter(state))
    state[first] = torch.full_like(state[first], torch.nan)
    path = folder / "nan.safetensors"
    save_file(state, path)
    return path


def other_size(frames, mask, folder):
    small = folder / "small.png"
    write_mask(small, torch.ones(10, 12, dtype=torch.uint8))
    return {"--mask": small}


def empty_mask(frames, mask, folder):
    write_mask(folder / "empty.png", torch.zeros(SIZE, dtype=torch.uint8))
    return {"--mask": folder / "empty.png"}


def out_among_frames(frames, mask, folder):
    return {"--out": frames}


def overlay_over_the_mask(frames, mask, folder):
    (folder / "link.mp4").symlink_to(mask)
    return {"--overlay": folder / "link.mp4"}


def stray_masks(frames, mask, folder):
    write_mask(folder / "00009.png", torch.ones(SIZE, dtype=torch.uint8))
    return {"--out": folder}


def no_frames(frames, mask, folder):
    for path in files(frames):
        path.unlink()


def mixed_sizes(frames, mask, folder):
    Image.new("RGB", (30, 20)).save(frames / "00002.jpg")


def corrupt_frame(frames, mask, folder):
    data = (frames / "00002.jpg").read_bytes()
    (frames / "00002.jpg").write_bytes(data[: len(data) // 2])


def corrupt_mask(frames, mask, folder):
    data = mask.read_bytes()
    mask.write_bytes(data[: len(data) // 2])


def truncated_video(frames, mask, folder):
    video = folder / "cut.mkv"
    write_video(video, list(open_frames(frames)) * 8, rate=12)
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 2 // 3])
    return {"INPUT": video}


BAD_INPUTS = [
    (other_size, "12x10 pixels .* but the frame is 160x96"),
    (empty_mask, "empty.png is empty"),
    (out_among_frames, "--out: .* is read too, as INPUT"),
    (overlay_over_the_mask, "--overlay: .* is read too, as --mask"),
    (stray_masks, "holds 1 other images, such as 00009.png"),
    (no_frames, "no JPEG, PNG"),
    (mixed_sizes, "00002.jpg.*30x20|30x20.*00002.jpg"),
    (corrupt_frame, "00002.jpg"),
    (corrupt_mask, "00000.png"),
    (truncated_video, "cut.mkv"),
    (lambda f, m, d: {"--mask": d / "none.png"}, "none.png"),
    (lambda f, m, d: {"INPUT": d / "nowhere"}, "no such folder"),
    (lambda f, m, d: {"--mask": None, "--box": "150,0,20,20"}, "does not lie inside the frame"),
    (lambda f, m, d: {"--mask": None, "--box": "1,2,3"}, "X,Y,W,H"),
    (lambda f, m, d: {"--method": "magic"}, "method: 'magic' is unknown; choose one of lwl-lite,"),
    (lambda f, m, d: {"--solver": "magic"}, "solver: 'magic' is unknown"),
    (lambda f, m, d: RIDGE | {"--backbone": "magic"}, "backbone: 'magic' is unknown"),
    (lambda f, m, d: {"--backbone": "small"}, "backbone: 'small'; that of lwl-lite comes with"),
    (lambda f, m, d: {"--method": "lwl"}, "lwl needs a file of weights; 'innerloop-vos convert"),
    (lambda f, m, d: {"--device": "magic"}, "device: 'magic' cannot be used"),
    (lambda f, m, d: {"--weights": m}, "weights: .* cannot be read"),
    (
        lambda f, m, d: RIDGE | {"--backbone": "small", "--weights": nan_weights(d)},
        "weights: .* holds numbers that are not finite",
    ),
    (lambda f, m, d: {"--out": m}, "00000.png is read too, as --mask"),
    (lambda f, m, d: {"--out": "/proc/innerloop"}, "/proc/innerloop is not writable"),
    (lambda f, m, d: {"--overlay": d / "overlay.gif"}, "should end in one of .mp4"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_INPUTS)
def test_bad_input_is_named_and_nothing_is_written(clip, tmp_path, capsys, spoil, message):
    frames, mask = clip
    out = tmp_path / "out"
    options = {"INPUT": frames, "--mask": mask, "--out": out}
    options |= spoil(frames, mask, tmp_path) or {}
    source = options.pop("INPUT")
    before = files(tmp_path)
    pairs = [str(part) for pair in options.items() if pair[1] for part in pair]
    assert main(["segment", str(source), *pairs]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("innerloop-vos: error: ")
    assert re.search(message, error), error
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "davis2020"], "dataset: 'davis2020'"),
        (["--split", "nonesuch"], "nonesuch"),
        (["--sequences", "nonesuch"], "nonesuch"),
        ([], "results folder .* does not exist"),
    ],
)
def test_bad_scoring_is_named(davis, tmp_path, capsys, arguments, message):
    code = main(["score", str(tmp_path / "none"), "--root", str(davis), *arguments])
    assert code == 2
    assert re.search(message, capsys.readouterr().err)


def test_without_a_start_the_usage_is_shown(clip, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["segment", str(clip[0]), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "--mask" in capsys.readouterr().err
