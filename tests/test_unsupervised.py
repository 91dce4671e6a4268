"""The unsupervised task: matching of objects, and the commands, resumed to the bit."""

import itertools
import json
import os
import signal

import numpy as np
import pytest
import torch
from davis_layout import write_davis
from PIL import Image

import innerloop_vos.runs.resuming as resuming
from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.cosnet import cosnet, save_cosnet
from innerloop_vos.data import synthetic_clip
from innerloop_vos.io.masks import read_mask, write_mask
from innerloop_vos.scoring import (
    NothingToScoreError,
    contour_accuracy,
    region_similarity,
    score_unsupervised,
)
from innerloop_vos.unsupervised import UnsupervisedSegmenter

SIZE = (24, 32)


def names(count):
    return [f"{index:05d}" for index in range(count)]


def random_masks(seed, ids, count=4):
    """Blobs of several ids, of which some are not seen in some frames."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, len(ids) + 1, (count, 1, 4, 5), generator=generator)
    labels = torch.tensor([0, *ids])[coarse]
    large = torch.nn.functional.interpolate(labels.float(), SIZE)[:, 0]
    return list(large.byte())


def by_brute_force(predictions, truths, objects, proposals):
    """The greatest mean of J and F over all ways to give each object a proposal of its own."""

    def pair(object_, proposal):
        values = []
        for found, true in zip(predictions, truths, strict=True):
            masks = found == proposal, true == object_
            masks = (masks[0] if proposal else torch.zeros_like(masks[0]), masks[1])
            values.append((region_similarity(*masks) + contour_accuracy(*masks)) / 2)
        return sum(values) / len(values)

    padded = [*proposals, *[0] * (len(objects) - len(proposals))]
    means = {(o, p): pair(o, p) for o in objects for p in {*proposals, 0}}
    return max(
        sum(means[o, p] for o, p in zip(objects, chosen, strict=True)) / len(objects)
        for chosen in itertools.permutations(padded, len(objects))
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("objects", "proposals"),
    [([1, 2], [5, 6, 7, 8]), ([3, 5, 9], [1, 2]), ([1], []), ([1, 2, 3], [1, 2, 3])],
)
def test_the_best_of_all_assignments_is_scored(seed, objects, proposals):
    truths, predictions = random_masks(seed, objects), random_masks(seed + 100, proposals)
    scores = score_unsupervised("clip", names(4), predictions, truths)
    assert sorted(each.id for each in scores.objects) == objects
    found = [each.summary.overall for each in scores.objects]
    wanted = by_brute_force(predictions, truths, objects, proposals)
    assert sum(found) / len(found) == pytest.approx(wanted, abs=1e-12)
    assert all(each.frames == names(4) for each in scores.objects)


def test_objects_and_proposals_may_come_late():
    truths = random_masks(0, [1, 2])
    truths[0] = torch.zeros_like(truths[0])
    predictions = random_masks(1, [3, 4])
    predictions[1] = torch.zeros_like(predictions[1])
    scores = score_unsupervised("clip", names(4), predictions, truths)
    found = [each.summary.overall for each in scores.objects]
    assert sum(found) / 2 == pytest.approx(by_brute_force(predictions, truths, [1, 2], [3, 4]))


def test_all_frames_count_and_all_ids_may_be_one_object():
    truths = random_masks(0, [1, 2])
    predictions = [mask * 7 for mask in truths]
    scores = score_unsupervised("clip", names(4), predictions, truths, single_object=True)
    (only,) = scores.objects
    assert only.region == only.contour == [1.0] * 4
    predictions[3] = torch.zeros_like(predictions[3])
    (only,) = score_unsupervised("clip", names(4), predictions, truths, single_object=True).objects
    assert only.region == [1.0, 1.0, 1.0, 0.0]


def test_frames_without_annotation_are_left_out():
    truths = random_masks(0, [1])
    predictions = [*truths[:2], None, truths[3]]
    truths[2] = None
    (only,) = score_unsupervised("clip", names(4), predictions, truths).objects
    assert only.frames == ["00000", "00001", "00003"]
    assert only.region == [1.0] * 3


def test_what_cannot_be_scored_is_named():
    truths = random_masks(0, [1])
    with pytest.raises(InputError, match="sequence clip, frame 00001: there is no prediction"):
        score_unsupervised("clip", names(4), [truths[0], None, *truths[2:]], truths)
    with pytest.raises(NothingToScoreError, match="no annotated frame that shows an object"):
        score_unsupervised("clip", names(4), truths, [mask * 0 for mask in truths])
    many = torch.arange(SIZE[0] * SIZE[1]).view(SIZE).remainder(22).byte()
    with pytest.raises(InputError, match="frame 00000: the predictions hold 21 objects"):
        score_unsupervised("clip", names(4), [many] * 4, truths)
    score_unsupervised("clip", names(4), [many.clamp(max=20)] * 4, truths)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_cosnet(cosnet("imagenet", channels=8), path)
    return path


@pytest.fixture
def davis(tmp_path):
    return write_davis(tmp_path / "DAVIS", ["cat"], length=5)


def segment(davis, out, *more):
    frames = davis / "JPEGImages/480p/cat"
    return main([str(w) for w in ["segment", frames, "--unsupervised", "--out", out, *more]])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_stopped_search_goes_on_to_the_same_masks(davis, weights, tmp_path, monkeypatch):
    words = ["--weights", weights, "--option", "references=2"]
    overlay = tmp_path / "overlay.mp4"
    assert segment(davis, tmp_path / "whole", *words, "--overlay", overlay) == 0
    assert overlay.stat().st_size > 1000
    masks = contents(tmp_path / "whole")
    assert len(masks) == 5
    write, written = resuming.write_mask, []

    def stop(path, labels):
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        written.append(path)
        write(path, labels)

    with monkeypatch.context() as patch:
        patch.setattr(resuming, "write_mask", stop)
        assert segment(davis, tmp_path / "parts", *words) == 143
    assert len(written) == 3
    monkeypatch.setattr(resuming, "write_mask", lambda *each: written.append(each) or write(*each))
    assert segment(davis, tmp_path / "parts", *words) == 0
    assert len(written) == 5
    assert contents(tmp_path / "parts") == masks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--method lwl-lite", "'lwl-lite' follows objects that it is given; those that find"),
        ("--method magic", "method: 'magic' is unknown; choose one of cosnet"),
        ("--method cosnet --speed fast", "speed: 'fast'; cosnet has no presets"),
        ("--method cosnet --solver exact", "solver: 'exact'; cosnet has no inner solver"),
        ("--method cosnet --backbone small", "backbone: 'small'; that of cosnet comes with"),
        ("--option selection=all", "selection: 'all', should be one of uniform, random, local"),
        ("--backwards", "--backwards: --unsupervised takes no masks or boxes"),
        ("--threshold 0", "--threshold: --unsupervised takes no masks or boxes"),
    ],
)
def test_what_cannot_be_used_is_named(davis, weights, tmp_path, capsys, words, message):
    assert segment(davis, tmp_path / "out", "--weights", weights, *words.split()) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_methods_that_find_objects_take_no_masks(davis, tmp_path, capsys):
    frames, mask = davis / "JPEGImages/480p/cat", davis / "Annotations/480p/cat/00000.png"
    words = ["segment", frames, "--mask", mask, "--out", tmp_path / "out", "--method", "cosnet"]
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert "'cosnet' finds objects by itself, and is given none; those that follow" in error
    with pytest.raises(SystemExit):
        segment(davis, tmp_path / "out", "--mask", mask)


class Bright(UnsupervisedSegmenter):
    """Takes what is bright as object 4, and what is dark as object 7."""

    def __init__(self, options, weights, device):
        super().__init__(device)

    def begin(self, frames):
        pass

    def find(self, frame):
        light = frame.float().mean(0)
        return 4 * (light > 200).byte() + 7 * (light < 50).byte()


@pytest.fixture
def two_objects(tmp_path):
    """A data set in the layout of DAVIS 2017: a bright object 1 and a dark object 2."""
    root = tmp_path / "DAVIS"
    for index in range(4):
        picture, labels = np.full((40, 60), 128, np.uint8), torch.zeros(40, 60, dtype=torch.uint8)
        for id_, value, column in ((1, 255, 5 + index), (2, 0, 40 - index)):
            picture[10:30, column : column + 12] = value
            labels[10:30, column : column + 12] = id_
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / "pair").mkdir(parents=True, exist_ok=True)
        name = f"480p/pair/{index:05d}"
        Image.fromarray(picture).convert("RGB").save(root / "JPEGImages" / f"{name}.png")
        write_mask(root / "Annotations" / f"{name}.png", labels)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("pair\n")
    return root


def test_evaluate_matches_the_objects(two_objects, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["--root", str(two_objects), "--dataset", "davis2017", "--task", "unsupervised"]
    words = ["evaluate", *common, "--out", str(out), "--method", f"{__name__}:Bright"]
    assert main(words) == 0
    assert read_mask(out / "pair/00000.png").unique().tolist() == [0, 4, 7]
    written = json.loads((out / "scores.json").read_text())["sequences"]["pair"]["objects"]
    assert list(written) == ["1", "2"]
    for values in written.values():
        assert values["J"] == [1.0] * 4  # the first frame and the last too
    before = contents(out / "pair")
    assert main(words) == 0
    assert contents(out / "pair") == before
    report = tmp_path / "again.json"
    assert main(["score", str(out), *common, "--json", str(report)]) == 0
    again = json.loads(report.read_text())["sequences"]["pair"]["objects"]
    assert [each["J"] for each in again.values()] == [each["J"] for each in written.values()]
    capsys.readouterr()
    assert main([*words[:-2], "--method", f"{__name__}:Bright", "--boxes"]) == 2
    assert "--boxes: in the unsupervised task" in capsys.readouterr().err
    words[words.index("unsupervised")] = "zero-shot"
    assert main(words) == 2
    assert "task: 'zero-shot', should be one of semi-supervised, unsuper" in capsys.readouterr().err


def test_evaluate_with_cosnet_where_nothing_is_annotated_gives_the_speed(weights, tmp_path, capsys):
    root = write_davis(tmp_path / "DAVIS", ["cat", "cow"], length=2)
    for path in (root / "Annotations/480p/cow").iterdir():
        path.unlink()
    (root / "ImageSets/480p/train.txt").rename(root / "ImageSets/480p/val.txt")
    words = ["evaluate", "--root", root, "--task", "unsupervised", "--weights", weights]
    assert main([str(word) for word in [*words, "--out", tmp_path / "out"]]) == 0
    assert "nothing can be scored in cow" in capsys.readouterr().out
    written = json.loads((tmp_path / "out/scores.json").read_text())["sequences"]
    assert written["cat"]["objects"]["1"]["frames"] == ["00000", "00001"]
    assert written["cow"]["objects"] == {}


def test_the_interface_checks_what_it_is_given():
    frames, _ = synthetic_clip(2, (40, 60), objects=1)
    segmenter = Bright(None, None, "cpu")
    with pytest.raises(RuntimeError, match="call start with the frames"):
        segmenter.step(frames[0])
    with pytest.raises(InputError, match="frame: shape"):
        segmenter.start(list(frames.float()))
    segmenter.start(list(frames))
    with pytest.raises(InputError, match="the video's first frame is 60x40"):
        segmenter.step(frames[0, :, :20])
    assert segmenter.step(frames[1]).shape == (40, 60)
