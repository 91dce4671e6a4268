"""Masks and boxes of any frame on the command line, and segmenting backwards."""

import os
import signal
from contextlib import contextmanager

import pytest
import torch
from PIL import Image

from innerloop_vos.cli import main
from innerloop_vos.data import synthetic_clip
from innerloop_vos.io.masks import mask_to_box, read_mask, write_mask
from innerloop_vos.runs import resuming
from innerloop_vos.runs.segmentation import frame_order

SIZE, LENGTH = (96, 160), 7
NEXT = resuming.segment_next


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder of frames, one of the masks of every object, and the true masks."""
    root = tmp_path_factory.mktemp("clip")
    frames, masks = synthetic_clip(length=LENGTH, size=SIZE, objects=2, seed=4)
    for part in ("frames", "one", "two", "both"):
        (root / part).mkdir()
    for t, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(root / "frames" / f"{t:05d}.png")
        write_mask(root / "one" / f"{t:05d}.png", mask * (mask == 1))
        write_mask(root / "two" / f"{t:05d}.png", mask * (mask == 2))
    return root, masks


def segment(root, out, *more):
    words = ["segment", str(root / "frames"), "--out", str(out), "--method", "ridge"]
    return main([*words, *map(str, more)])


@contextmanager
def interrupted(monkeypatch, at):
    """A signal comes while the frame of an index is segmented."""

    def stopped(segmenter, frames, given, index, **more):
        if index == at:
            os.kill(os.getpid(), signal.SIGINT)
        return NEXT(segmenter, frames, given, index, **more)

    with monkeypatch.context() as patch:
        patch.setattr(resuming, "segment_next", stopped)
        yield


def ids(out, t):
    return read_mask(out / f"{t:05d}.png").unique().tolist()


def test_objects_come_in_at_their_frames(clip, tmp_path, capsys):
    root, _ = clip
    out = tmp_path / "out"
    words = ["--mask", root / "one/00001.png", "--mask", f"00003.png={root}/two/00003.png"]
    assert segment(root, out, *words) == 0
    assert "00000: 1 object: 1" in capsys.readouterr().out
    assert [2 in ids(out, t) for t in range(4)] == [False, False, False, True]
    assert 1 in ids(out, 1)
    given, found = (read_mask(f / "00003.png") == 2 for f in (root / "two", out))
    assert torch.equal(given, found)


def test_masks_of_a_folder_are_named_like_their_frames(clip, tmp_path):
    root, _ = clip
    masks = tmp_path / "masks"
    masks.mkdir()
    for name, t in (("two", 2), ("one", 4)):
        (masks / f"{t:05d}.png").write_bytes((root / name / f"{t:05d}.png").read_bytes())
    assert segment(root, tmp_path / "out", "--mask", masks) == 0
    assert [ids(tmp_path / "out", t) for t in (1, 2)] == [[0], [0, 2]]
    assert 1 in ids(tmp_path / "out", 4)


def test_of_a_folder_as_in_a_data_set_the_first_masks_count(clip, tmp_path, capsys):
    root, _ = clip
    masks = tmp_path / "masks"
    masks.mkdir()
    write_mask(masks / "00000.png", torch.zeros(SIZE, dtype=torch.uint8))
    for t in range(1, LENGTH):
        both = [read_mask(root / name / f"{t:05d}.png") for name in ("one", "two")]
        write_mask(masks / f"{t:05d}.png", both[0] if t < 3 else sum(both))
    assert segment(root, tmp_path / "out", "--mask", masks) == 0
    assert capsys.readouterr().out.count("object") == 2
    assert ids(tmp_path / "out", 0) == [0]
    assert 2 not in ids(tmp_path / "out", 2)
    assert 2 in ids(tmp_path / "out", 3)


def test_the_same_masks_in_other_frames_are_another_run(clip, tmp_path, monkeypatch, capsys):
    root, _ = clip
    first, second = (f"{root}/{name}/00000.png" for name in ("one", "two"))

    words = ["--mask", f"00001={first}", "--mask", f"00003={second}"]
    with interrupted(monkeypatch, at=5):
        assert segment(root, tmp_path / "out", *words) == 130
    capsys.readouterr()
    swapped = ["--mask", f"00003={first}", "--mask", f"00001={second}"]
    assert segment(root, tmp_path / "out", *swapped) == 2
    assert "holds a run with mask" in capsys.readouterr().err
    assert segment(root, tmp_path / "out", *words) == 0


def test_boxes_of_later_frames(clip, tmp_path):
    root, masks = clip
    one, two = (",".join(map(str, mask_to_box(masks[t] == i))) for t, i in ((0, 1), (2, 2)))
    assert segment(root, tmp_path / "out", "--box", one, "--box", f"00002={two}") == 0
    assert ids(tmp_path / "out", 0) == [0, 1]
    assert 2 in ids(tmp_path / "out", 2)


def test_backwards_is_the_clip_turned_round(clip, tmp_path, monkeypatch):
    root, _ = clip
    words = ["--mask", f"00003={root}/one/00003.png"]
    assert segment(root, tmp_path / "forwards", *words) == 0
    assert ids(tmp_path / "forwards", 2) == [0]
    both = tmp_path / "both"
    assert segment(root, both, *words, "--backwards") == 0
    assert ids(both, 0) == [0, 1]
    for t in range(3, LENGTH):
        assert torch.equal(*(read_mask(f / f"{t:05d}.png") for f in (both, tmp_path / "forwards")))
    turned = tmp_path / "turned"
    (turned / "frames").mkdir(parents=True)
    for t in range(4):
        path = root / "frames" / f"{t:05d}.png"
        (turned / "frames" / f"{3 - t:05d}.png").write_bytes(path.read_bytes())
    assert segment(turned, turned / "out", "--mask", root / "one/00003.png") == 0
    for t in range(4):
        assert torch.equal(
            read_mask(both / f"{t:05d}.png"), read_mask(turned / "out" / f"{3 - t:05d}.png")
        )
    # Stopped on the way back, it goes on from there to the same masks.
    with interrupted(monkeypatch, at=1):
        assert segment(root, tmp_path / "again", *words, "--backwards") == 130
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(resuming, "segment_next", lambda *a, **k: seen.append(a[3]) or NEXT(*a, **k))
        assert segment(root, tmp_path / "again", *words, "--backwards") == 0
    assert seen == [0]
    for path in both.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_corrections_change_what_follows_and_go_on_after_a_stop(
    clip, tmp_path, monkeypatch, capsys
):
    root, masks = clip
    true = tmp_path / "true.png"
    write_mask(true, masks[4])
    start = ["--mask", f"00002={root}/one/00002.png"]
    plain, whole, parts = (tmp_path / name for name in ("plain", "whole", "parts"))
    assert segment(root, plain, *start, "--backwards") == 0
    write_mask(tmp_path / "back.png", masks[1])
    words = [*start, "--backwards", "--correct", f"00004={true}"]
    words += ["--correct", f"00001={tmp_path}/back.png"]
    assert segment(root, whole, *words) == 0
    assert "00004: corrected, 2 objects: 1" in capsys.readouterr().out
    for t in (1, 4):
        assert torch.equal(read_mask(whole / f"{t:05d}.png"), masks[t])
    assert [ids(whole, t) for t in (2, 3, 4, 1)] == [[0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]
    same = [
        torch.equal(*(read_mask(folder / f"{t:05d}.png") for folder in (plain, whole)))
        for t in range(LENGTH)
    ]
    assert same == [False, False, True, True, False, False, False]
    for at in (3, 5, 1):
        with interrupted(monkeypatch, at=at):
            assert segment(root, parts, *words) == 130
    capsys.readouterr()
    write_mask(tmp_path / "back.png", masks[0])
    assert segment(root, parts, *words) == 2
    assert "holds a run with correct" in capsys.readouterr().err
    write_mask(tmp_path / "back.png", masks[1])
    assert segment(root, parts, *words) == 0
    for path in whole.iterdir():
        assert (parts / path.name).read_bytes() == path.read_bytes()


def test_corrections_follow_boxes_too_and_may_be_empty(clip, tmp_path):
    root, masks = clip
    box = ",".join(map(str, mask_to_box(masks[0] == 1)))
    write_mask(tmp_path / "empty.png", torch.zeros(SIZE, dtype=torch.uint8))
    words = ["--box", box, "--correct", f"00002={tmp_path}/empty.png"]
    assert segment(root, tmp_path / "out", *words) == 0
    assert ids(tmp_path / "out", 2) == [0]


def test_the_order_of_frames():
    assert frame_order(5, 2, backwards=False) == [0, 1, 2, 3, 4]
    assert frame_order(5, 2, backwards=True) == [2, 3, 4, 1, 0]
    assert frame_order(3, 0, backwards=True) == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mask", "00009=ROOT/one/00003.png"], "there is no frame '00009'; they are 00000 to"),
        (["--mask", "00003=ROOT/none.png"], "none.png"),
        (["--mask", "ROOT/both"], "holds no mask"),
        (["--mask", "ROOT/one/00000.png", "--mask", "00000=ROOT/two/00000.png"], "two masks"),
        (
            ["--mask", "ROOT/one/00000.png", "--mask", "00002=ROOT/one/00002.png"],
            r"00002.png: it holds no object but [1]",
        ),
        (["--box", "1,2,9,9", "--correct", "ROOT/one/00000.png"], "should be NAME=FILE"),
        (["--box", "1,2,9,9", "--correct", "9=ROOT/one/00000.png"], "there is no frame '9'"),
        (
            ["--box", "1,2,9,9", "--correct", "00000=ROOT/one/00000.png"],
            "--correct 00000=ROOT/one/00000.png: this frame has a mask or a box already",
        ),
        (
            ["--box", "00003=1,2,9,9", "--correct", "00001=ROOT/one/00000.png"],
            "frames before the first mask or box are segmented with --backwards only",
        ),
        (
            ["--box", "1,2,9,9", *["--correct", "00001=ROOT/one/00000.png"] * 2],
            "--correct: frame 00001 is given two masks",
        ),
        (["--unsupervised", "--correct", "00001=ROOT/one/00000.png"], "--correct: --unsupervised"),
        (["--box", "00009=1,2,3,4"], "there is no frame '00009'"),
        (["--box", "00002=1,2,3"], "box"),
    ],
)
def test_what_is_given_wrongly_is_named(clip, tmp_path, capsys, words, message):
    root, _ = clip
    assert segment(root, tmp_path / "out", *(w.replace("ROOT", str(root)) for w in words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.replace("ROOT", str(root)) in line
    assert not (tmp_path / "out").exists()
