"""Evaluating on data sets in the layouts that their authors distribute."""

import json
import zipfile

import pytest
from davis_layout import write_davis
from PIL import Image
from torchrun import torchrun

from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.data import MoseDataset, YouTubeVOSDataset, synthetic_clip
from innerloop_vos.io.masks import read_mask, write_mask
from innerloop_vos.scoring import ObjectScores, SequenceScores, category_scores

SIZE = (128, 192)
CLIPS = {"003234408d": {"1": "cat", "2": "zebra"}, "0062f687f1": {"1": "cat"}}
LATE = 5


def write_youtube_vos(root, split, annotated, clips=CLIPS, length=11):
    """Clips whose second object comes in at frame 5: frames of every number in `_all_frames`."""
    videos = {}
    for seed, (name, categories) in enumerate(clips.items()):
        frames, masks = synthetic_clip(length, SIZE, objects=len(categories), seed=seed)
        masks = [mask if t >= LATE else mask * (mask == 1) for t, mask in enumerate(masks)]
        for folder in (split, f"{split}_all_frames"):
            (root / folder / "JPEGImages" / name).mkdir(parents=True)
        (root / split / "Annotations" / name).mkdir(parents=True)
        for t, frame in enumerate(frames):
            picture = Image.fromarray(frame.permute(1, 2, 0).numpy())
            picture.save(root / f"{split}_all_frames" / "JPEGImages" / name / f"{t:05d}.jpg")
            if t % 5 == 0:
                picture.save(root / split / "JPEGImages" / name / f"{t:05d}.jpg")
            new = {0: 1, LATE: 2}.get(t)
            if annotated and t % 5 == 0:
                write_mask(root / split / "Annotations" / name / f"{t:05d}.png", masks[t])
            elif new in map(int, categories):
                given = masks[t] * (masks[t] == new)
                write_mask(root / split / "Annotations" / name / f"{t:05d}.png", given)
        videos[name] = {"objects": {id_: {"category": c} for id_, c in categories.items()}}
    (root / split / "meta.json").write_text(json.dumps({"videos": videos}))
    return root


@pytest.fixture(scope="module")
def youtube_vos(tmp_path_factory):
    root = write_youtube_vos(tmp_path_factory.mktemp("ytvos"), "valid", annotated=False)
    return write_youtube_vos(root, "train", True, {"aaaaaaaaaa": {"1": "cat"}, **CLIPS})


def evaluate(root, out, *more):
    return main(
        ["evaluate", "--root", str(root), "--method", "ridge", "--out", str(out), *map(str, more)]
    )


def test_objects_are_given_where_they_appear(youtube_vos):
    for split in ("train", "valid"):
        given = YouTubeVOSDataset(youtube_vos, split)["003234408d"].given()
        assert {t: mask.unique().tolist() for t, mask in given.items()} == {0: [0, 1], 1: [0, 2]}
    every = YouTubeVOSDataset(youtube_vos, "valid", all_frames=True)["003234408d"]
    assert len(every.frames) == 11
    assert list(every.given()) == [0, LATE]


@pytest.mark.parametrize("more", [[], ["--all-frames"], ["--boxes"]])
def test_youtube_vos_valid_is_segmented_and_packed(youtube_vos, tmp_path, capsys, more):
    out, archive = tmp_path / "out", tmp_path / "submission.zip"
    words = ["--dataset", "youtube-vos", "--submission", archive, *more]
    assert evaluate(youtube_vos, out, *words) == 0
    assert "nothing can be scored in 003234408d, 0062f687f1" in capsys.readouterr().out
    frames = ("00000", "00005", "00010")
    with zipfile.ZipFile(archive) as packed:
        names = [f"Annotations/{name}/{frame}.png" for name in CLIPS for frame in frames]
        assert packed.namelist() == names
        assert packed.read(names[2]) == (out / "003234408d" / "00010.png").read_bytes()
    assert read_mask(out / "003234408d" / "00000.png").unique().tolist() == [0, 1]
    assert read_mask(out / "003234408d" / "00005.png").unique().tolist() == [0, 1, 2]
    assert len(list((out / "0062f687f1").iterdir())) == (11 if "--all-frames" in more else 3)


def test_a_local_validation_split_has_scores_of_seen_and_unseen(youtube_vos, tmp_path, capsys):
    words = ["--dataset", "youtube-vos", "--split", "train", "--sequences", ",".join(CLIPS)]
    assert evaluate(youtube_vos, tmp_path / "out", *words) == 0
    printed = capsys.readouterr().out
    for name in ("J seen", "F seen", "J unseen", "F unseen", "G"):
        assert name in printed
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["sequences"]
    objects = scores["003234408d"]["objects"]
    # The last frame counts, but not the one that the object was given in.
    assert objects["1"]["frames"] == ["00005", "00010"]
    assert objects["2"]["frames"] == ["00010"]
    # The same numbers, from the masks.
    assert main(["score", str(tmp_path / "out"), "--root", str(youtube_vos), *words]) == 0
    assert printed.splitlines()[-1] == capsys.readouterr().out.splitlines()[-1]


def test_scores_are_kept_where_categories_are_missing(tmp_path, capsys):
    root = write_youtube_vos(tmp_path / "ytvos", "valid", annotated=True)
    words = ["--dataset", "youtube-vos", "--json", tmp_path / "new" / "scores.json"]
    assert evaluate(root, tmp_path / "out", *words) == 0
    assert "no scores of seen and unseen categories: " in capsys.readouterr().out
    assert json.loads((tmp_path / "new" / "scores.json").read_text())["mean"]["J-Mean"] > 0
    write_youtube_vos(root, "train", annotated=True)
    meta = json.loads((root / "valid" / "meta.json").read_text())
    del meta["videos"]["003234408d"]["objects"]["2"]
    (root / "valid" / "meta.json").write_text(json.dumps(meta))
    words[-1] = tmp_path / "again.json"
    assert evaluate(root, tmp_path / "again", *words) == 0
    assert "has no object 2 of 003234408d" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["valid", "valid_all_frames"])
def test_nothing_is_written_into_a_split(youtube_vos, capsys, split):
    before = {path: path.stat().st_mtime_ns for path in youtube_vos.rglob("*.png")}
    words = ["--dataset", "youtube-vos", "--all-frames"]
    assert evaluate(youtube_vos, youtube_vos / split / "Annotations", *words) == 2
    assert "which is read as --root" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in youtube_vos.rglob("*.png")} == before


def test_g_is_the_mean_of_four():
    class Labels:
        def categories(self):
            return {("a", 1): "cat", ("a", 2): "zebra", ("b", 1): "cat"}

        def seen_categories(self):
            return {"cat", "dog"}

    def scores(name, *objects):
        each = [ObjectScores(i, ["x"], [j], [f]) for i, (j, f) in enumerate(objects, start=1)]
        return SequenceScores(name, 3, each)

    both = [scores("a", (0.5, 0.25), (1.0, 0.75)), scores("b", (0.25, 0.5))]
    assert category_scores(both, Labels()) == {
        "J seen": 0.375,
        "J unseen": 1.0,
        "F seen": 0.375,
        "F unseen": 0.75,
        "G": 0.625,
    }
    assert category_scores(both[1:], Labels())["G"] == 0.375
    assert category_scores([], Labels()) == {}


def test_categories_that_are_not_there_are_named(youtube_vos, tmp_path):
    root = write_youtube_vos(tmp_path, "train", annotated=True)
    (root / "train" / "meta.json").write_text(json.dumps({"videos": {name: {} for name in CLIPS}}))
    with pytest.raises(InputError, match=r"meta.json does not say of what category"):
        YouTubeVOSDataset(root, "train").categories()
    alone = write_youtube_vos(tmp_path / "alone", "valid", annotated=True)
    with pytest.raises(InputError, match=r"train/meta.json is missing"):
        YouTubeVOSDataset(alone, "valid").seen_categories()


def test_mose_as_it_is_distributed(youtube_vos, tmp_path):
    (youtube_vos / "valid").rename(tmp_path / "valid")
    (tmp_path / "valid" / "meta.json").rename(tmp_path / "valid" / "meta_valid.json")
    try:
        assert sorted(MoseDataset(tmp_path, "valid").names) == sorted(CLIPS)
        archive = tmp_path / "submission.zip"
        words = ["--dataset", "mose", "--sequences", "0062f687f1", "--submission", archive]
        assert evaluate(tmp_path, tmp_path / "out", *words) == 0
        with zipfile.ZipFile(archive) as packed:
            assert packed.namelist()[0] == "0062f687f1/00000.png"
    finally:
        (tmp_path / "valid" / "meta_valid.json").rename(tmp_path / "valid" / "meta.json")
        (tmp_path / "valid").rename(youtube_vos / "valid")


def test_davis_2017_test_dev(tmp_path, capsys):
    davis = write_davis(tmp_path / "DAVIS", ["one", "two"], length=3)
    for path in davis.glob("Annotations/480p/*/0000[12].png"):
        path.unlink()
    (davis / "ImageSets" / "2017").mkdir()
    (davis / "ImageSets" / "2017" / "test-dev.txt").write_text("one\ntwo\n")
    archive = tmp_path / "submission.zip"
    words = ["--dataset", "davis2017", "--split", "test-dev", "--submission", archive]
    assert evaluate(davis, tmp_path / "out", *words) == 0
    assert "nothing can be scored in one, two" in capsys.readouterr().out
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == [f"{n}/0000{t}.png" for n in ("one", "two") for t in range(3)]


def test_a_sequence_without_annotation_is_named_before_anything_runs(tmp_path, capsys):
    davis = write_davis(tmp_path / "DAVIS", ["one", "two"], length=3)
    for path in davis.glob("Annotations/480p/two/*.png"):
        path.unlink()
    assert evaluate(davis, tmp_path / "out", "--split", "train") == 2
    assert "sequence two has no annotation to start from" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_submission_is_refused_before_anything_runs(tmp_path, capsys):
    davis = write_davis(tmp_path / "DAVIS", ["one"], length=3)
    words = ["--split", "train", "--submission", tmp_path / "masks.tar"]
    assert evaluate(davis, tmp_path / "out", *words) == 2
    assert "should end in .zip" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert evaluate(davis, tmp_path / "out", "--all-frames") == 2
    assert "--all-frames is for youtube-vos" in capsys.readouterr().err
    assert evaluate(davis, tmp_path / "out", "--resolution", "1080p", "--split", "train") == 2
    assert "there is no JPEGImages/1080p" in capsys.readouterr().err
    assert evaluate(davis, tmp_path / "out", "--dataset", "mose", "--resolution", "480p") == 2
    assert "--resolution is for davis, not for mose" in capsys.readouterr().err


def test_results_are_compared_sequence_by_sequence(tmp_path, capsys):
    davis = write_davis(tmp_path / "DAVIS", ["one", "two"], length=4)
    for name, solver in (("exact", "exact"), ("steps", "steepest-descent")):
        assert evaluate(davis, tmp_path / name, "--split", "train", "--solver", solver) == 0
    capsys.readouterr()
    words = ["score", str(tmp_path / "exact"), "--beside", str(tmp_path / "steps")]
    assert main([*words, "--root", str(davis), "--split", "train"]) == 0
    table = capsys.readouterr().out.partition("J&F in percent")[0]
    assert "difference" in table
    one, two, mean = (
        line.split() for line in table.splitlines() if line[1:4] in ("one", "two", "mea")
    )
    for row in (one, two, mean):
        assert float(row[2]) - float(row[1]) == pytest.approx(float(row[3]), abs=0.11)


def test_scores_of_all_that_is_done_are_in_one_file(tmp_path, capsys):
    davis = write_davis(tmp_path / "DAVIS", ["one", "two"], length=3)
    out = tmp_path / "out"
    for name in ("one", "two"):
        assert evaluate(davis, out, "--sequences", name) == 0
    assert list(json.loads((out / "scores.json").read_text())["sequences"]) == ["two", "one"]
    # No file of another folder is written over.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".scores").symlink_to(tmp_path / "elsewhere")
    capsys.readouterr()
    assert evaluate(davis, tmp_path / "linked", "--sequences", "one") == 2
    assert ".scores is there" in capsys.readouterr().err
    (out / ".scores").rename(tmp_path / "moved")
    (out / ".scores").symlink_to(tmp_path / "moved")
    assert evaluate(davis, out, "--sequences", "one") == 2
    assert ".scores is a link" in capsys.readouterr().err


def test_no_table_is_written_into_results(tmp_path, capsys):
    davis = write_davis(tmp_path / "DAVIS", ["one"], length=3)
    for name in ("ours", "theirs"):
        assert evaluate(davis, tmp_path / name, "--sequences", "one") == 0
    words = ["score", str(tmp_path / "ours"), "--beside", str(tmp_path / "theirs")]
    words += ["--root", str(davis), "--sequences", "one"]
    assert main([*words, "--json", str(tmp_path / "theirs" / "scores.json")]) == 2
    assert "--beside" in capsys.readouterr().err


def test_processes_share_the_sequences(tmp_path):
    davis = write_davis(tmp_path / "DAVIS", ["one", "two", "six"], length=3)
    words = ["--split", "train", "--device", "cpu"]
    assert evaluate(davis, tmp_path / "alone", *words) == 0
    out = tmp_path / "shared"
    line = ["evaluate", "--root", davis, "--method", "ridge", "--out", out, *words]
    torchrun("-m", "innerloop_vos.cli", *line, processes=3)
    alone, shared = (
        json.loads((tmp_path / name / "scores.json").read_text()) for name in ("alone", "shared")
    )
    assert {name: each["objects"] for name, each in alone["sequences"].items()} == {
        name: each["objects"] for name, each in shared["sequences"].items()
    }
    for path in (tmp_path / "alone").glob("*/*.png"):
        assert (out / path.relative_to(tmp_path / "alone")).read_bytes() == path.read_bytes()
    # A single process goes on with what several began.
    (out / ".scores" / "two.json").unlink()
    assert evaluate(davis, out, *words) == 0
