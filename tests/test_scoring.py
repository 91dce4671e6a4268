"""J, F, their statistics and the report, against hand-computed and published numbers."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from shared import SHARED, needs_shared

from innerloop.errors import InputError
from innerloop_vos.data.davis import DavisDataset
from innerloop_vos.io.masks import write_mask
from innerloop_vos.scoring import report
from innerloop_vos.scoring.boundary import contour_accuracy
from innerloop_vos.scoring.folder import score_folder, score_results
from innerloop_vos.scoring.jaccard import region_similarity
from innerloop_vos.scoring.sequence import ObjectScores, SequenceScores, score_sequence
from innerloop_vos.scoring.statistics import Statistics, Summary, average, summarize

Measure = Callable[..., float]


def mask(rows: slice, columns: slice, size: tuple[int, int] = (48, 64)) -> torch.Tensor:
    labels = torch.zeros(size, dtype=torch.uint8)
    labels[rows, columns] = 1
    return labels


EMPTY = mask(slice(0), slice(0))
FULL = torch.ones(48, 64, dtype=torch.uint8)
SQUARE = mask(slice(10, 20), slice(10, 20))


def test_region_similarity_counts_pixels() -> None:
    shifted = mask(slice(10, 20), slice(15, 25))
    assert region_similarity(shifted, SQUARE) == 50 / 150
    assert region_similarity(shifted.bool(), 7 * SQUARE) == 50 / 150


@pytest.mark.parametrize("measure", [region_similarity, contour_accuracy])
def test_empty_masks(measure: Measure) -> None:
    assert measure(EMPTY, EMPTY) == 1
    assert measure(EMPTY, SQUARE) == 0
    assert measure(SQUARE, EMPTY) == 0
    assert measure(SQUARE, SQUARE) == 1


def test_full_mask_has_no_contour() -> None:
    assert contour_accuracy(FULL, EMPTY) == 1
    assert contour_accuracy(FULL, SQUARE) == 0


@pytest.mark.parametrize(
    ("tolerance", "expected"), [(1, 0.75), (1.5, 1), (0.012, 0.75), (0.013, 1), (0, 0.25)]
)
def test_tolerance_is_a_disk_in_pixels_or_diagonals(tolerance: float, expected: float) -> None:
    # A single pixel has a contour of 2x2. Shifted by (1, 1) the two contours share one point, two
    # more are 1 and the last is sqrt(2) away. The diagonal is 80 pixels.
    dot, shifted = (mask(slice(i, i + 1), slice(i, i + 1)) for i in (20, 21))
    assert contour_accuracy(shifted, dot, tolerance) == expected


def test_contour_accuracy_is_what_all_pairs_of_points_give() -> None:
    generator = torch.Generator().manual_seed(0)
    for tolerance in (1, 2.5, 4):
        coarse = torch.rand(2, 1, 6, 8, generator=generator)
        prediction, truth = torch.nn.functional.interpolate(coarse, (48, 64), mode="bicubic")[:, 0]
        prediction, truth = prediction > 0.5, truth > 0.6
        points = [contour_points(labels) for labels in (prediction, truth)]
        near = torch.cdist(*points) <= tolerance
        precision = near.any(1).double().mean().item()
        recall = near.any(0).double().mean().item()
        expected = 2 * precision * recall / (precision + recall)
        assert contour_accuracy(prediction, truth, tolerance) == pytest.approx(expected, abs=1e-12)


def contour_points(labels: torch.Tensor) -> torch.Tensor:
    height, width = labels.shape
    points = [
        (y, x)
        for y in range(height)
        for x in range(width)
        if labels[y : y + 2, x : x + 2].unique().numel() > 1
    ]
    return torch.tensor(points, dtype=torch.float64)


@pytest.mark.parametrize("measure", [region_similarity, contour_accuracy])
@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (SQUARE[:40], "prediction is 64x40 pixels but truth is 64x48"),
        (
            SQUARE[None],
            r"prediction should be an \(H, W\) mask .* got torch.uint8 of shape \(1, 48",
        ),
        (SQUARE / 2, "prediction should be .* got torch.float32"),
    ],
)
def test_bad_masks_are_refused(measure: Measure, prediction: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(prediction, SQUARE)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_bad_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(InputError, match="tolerance must be finite"):
        contour_accuracy(SQUARE, SQUARE, tolerance)


def test_statistics_of_hand_computed_values() -> None:
    # Ten frames have the bins 1-3, 3-6, 6-8 and 8-10.
    values = [0.9, 0.8, 0.7, 0.7, 0.6, 0.6, 0.5, 0.4, 0.3, 0.2]
    result = summarize(values)
    assert result.mean == pytest.approx(0.57)
    assert result.recall == pytest.approx(0.6)  # 0.5 itself is not a success
    assert result.decay == pytest.approx(0.8 - 0.3)


@pytest.mark.parametrize(
    ("values", "decay"), [([1, 0.5, 0], 0.75), ([0.25], 0), ([0.25, 0.75], -0.5)]
)
def test_decay_of_few_frames_rounds_half_bins_up(values: list[float], decay: float) -> None:
    assert summarize(values).decay == decay


def test_decay_of_more_frames_than_a_byte_counts() -> None:
    values = [1.0] * 300 + [0.0] * 300
    assert summarize(values).decay == 1


def test_nan_is_left_out_of_mean_and_decay_and_a_miss_in_recall() -> None:
    nan = float("nan")
    assert summarize([nan, 0.75, 0.75, 0.25, 0.25, nan]) == Statistics(0.5, 2 / 6, 0.5)


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="at least one frame"):
        summarize([])
    with pytest.raises(InputError, match="at least one object"):
        average([])


def test_average_counts_every_object_the_same() -> None:
    one = Summary(Statistics(1, 1, 0), Statistics(0.5, 0.5, 0.2))
    two = Summary(Statistics(0, 0.5, 0.4), Statistics(0.25, 0, 0))
    result = average([one, two])
    assert result == Summary(Statistics(0.5, 0.75, 0.2), Statistics(0.375, 0.25, 0.1))
    assert result.overall == 0.4375


# Two objects of 10x10 in five frames; object 1 is predicted exactly, object 2 half as wide.
FRAMES = [f"{i:05d}" for i in range(5)]
TRUTH = mask(slice(10, 20), slice(10, 20)) + 2 * mask(slice(30, 40), slice(30, 40))
PREDICTION = mask(slice(10, 20), slice(10, 20)) + 2 * mask(slice(30, 40), slice(30, 35))


def test_objects_are_scored_apart_without_first_and_last_frame() -> None:
    wrong = 3 - TRUTH  # holds an id that does not exist, on a frame that does not count
    scores = score_sequence("two", FRAMES, [PREDICTION] * 4 + [wrong], [TRUTH] * 5, seconds=2.0)
    first, second = scores.objects
    assert (scores.name, scores.length, scores.seconds) == ("two", 5, 2.0)
    assert (first.id, second.id) == (1, 2)
    assert first.frames == second.frames == FRAMES[1:-1]
    assert first.region == first.contour == [1, 1, 1]
    assert second.region == [0.5, 0.5, 0.5]
    assert second.summary.region == Statistics(0.5, 0, 0)


def test_single_object_joins_all_ids() -> None:
    (joined,) = score_sequence(
        "two", FRAMES, [7 * PREDICTION] * 5, [TRUTH] * 5, single_object=True
    ).objects
    assert joined.id == 1
    assert joined.region == [0.75, 0.75, 0.75]


def test_lost_object_scores_zero() -> None:
    scores = score_sequence("two", FRAMES, [PREDICTION.eq(1).byte()] * 5, [TRUTH] * 5)
    assert scores.objects[1].region == scores.objects[1].contour == [0, 0, 0]


def test_object_counts_after_the_frame_that_first_shows_it() -> None:
    early = TRUTH.eq(1).byte()
    truths = [early, early, TRUTH, TRUTH, TRUTH]
    scores = score_sequence("late", FRAMES, truths, truths)
    assert [each.frames for each in scores.objects] == [FRAMES[1:-1], FRAMES[3:-1]]


def test_frames_without_annotation_do_not_count() -> None:
    truths = [TRUTH, None, TRUTH, None, None]
    scores = score_sequence("sparse", FRAMES, [PREDICTION] * 5, truths)
    assert [each.frames for each in scores.objects] == [FRAMES[2:3]] * 2


def test_sequence_without_a_frame_that_counts_is_refused() -> None:
    with pytest.raises(InputError, match="sequence short has 2 frames and none that is scored"):
        score_sequence("short", FRAMES[:2], [TRUTH] * 2, [TRUTH] * 2)


def test_prediction_of_an_unknown_object_is_refused() -> None:
    with pytest.raises(InputError, match=r"two, frame 00001: .* objects \[4\], .* only \[1, 2\]"):
        score_sequence("two", FRAMES, [TRUTH] + [2 * TRUTH] * 4, [TRUTH] * 5)


def test_prediction_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="two, frame 00001: prediction is 64x40 pixels"):
        score_sequence("two", FRAMES, [TRUTH[:40]] * 5, [TRUTH] * 5)


SCORES = [
    SequenceScores(
        "cows",
        5,
        [
            ObjectScores(1, FRAMES[1:-1], [1.0, 1.0, 1.0], [0.75, 0.75, 0.75]),
            ObjectScores(2, FRAMES[1:-1], [1 / 3, 1 / 3, 1 / 3], [0.25, 0.25, 0.25]),
        ],
        seconds=2.0,
    ),
    SequenceScores("dog", 5, [ObjectScores(1, FRAMES[1:-1], [0.0] * 3, [0.0] * 3)], seconds=0.5),
]


def test_table_shows_objects_mean_and_speed() -> None:
    lines = printed(SCORES)
    assert lines["cows"] == "cows 2 29.2 33.3 0.0 0.0 25.0 0.0 0.0 2.5"
    assert lines["dog"] == "dog 1 0.0 0.0 0.0 0.0 0.0 0.0 0.0 10.0"
    assert lines["mean"] == "mean 38.9 44.4 33.3 0.0 33.3 33.3 0.0 4.0"
    assert lines["Sequence"].endswith(" FPS")


def test_table_has_no_speed_where_none_was_measured() -> None:
    lines = printed([replace(sequence, seconds=None) for sequence in SCORES])
    assert lines["Sequence"].endswith(" Decay")
    assert lines["mean"].endswith("33.3 0.0")


def printed(sequences: list[SequenceScores]) -> dict[str, str]:
    """The last line of the printed table that begins with each word, single-spaced."""
    output = io.StringIO()
    Console(file=output, width=80).print(report.table(sequences))
    lines = [line.split() for line in output.getvalue().splitlines()]
    return {words[0]: " ".join(words) for words in lines if words}


def test_csv_has_a_line_per_object_and_the_mean(tmp_path: Path) -> None:
    report.write_csv(tmp_path / "scores.csv", SCORES)
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["Sequence"], row["Object"]) for row in rows] == [
        ("cows", "1"),
        ("cows", "2"),
        ("dog", "1"),
        ("mean", ""),
    ]
    assert [row["J-Mean"] for row in rows] == ["1.0", "0.333333", "0.0", "0.444444"]
    assert [row["FPS"] for row in rows] == ["2.5", "2.5", "10.0", "4.0"]


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    report.write_json(path, SCORES)
    assert report.read_json(path) == SCORES
    document = json.loads(path.read_text())
    assert document["mean"]["J&F-Mean"] == report.overall_summary(SCORES).overall
    assert document["sequences"]["cows"]["objects"]["2"]["J"] == [1 / 3] * 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sequences": {"cows": {}}}', "\0"])
def test_json_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(InputError, match=r"scores.json (holds no scores|is damaged)"):
        report.read_json(tmp_path / "scores.json")


def test_reports_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    for write in (report.write_csv, report.write_json):
        with pytest.raises(InputError, match="cannot write"):
            write(tmp_path / "missing" / "scores", SCORES)
        with pytest.raises(InputError):
            write(tmp_path / "scores", [])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A DAVIS root with the sequence ``two``, and results for it in ``results``."""
    root = tmp_path / "davis"
    folders = root / "JPEGImages/480p/two", root / "Annotations/480p/two", tmp_path / "results/two"
    for folder in folders:
        folder.mkdir(parents=True)
    images, truths, results = folders
    for frame in FRAMES:
        Image.new("RGB", (64, 48)).save(images / f"{frame}.jpg")
        write_mask(truths / f"{frame}.png", TRUTH)
        write_mask(results / f"{frame}.png", PREDICTION)
    return root


@pytest.mark.parametrize(("year", "expected"), [(2016, [0.75]), (2017, [1, 0.5])])
def test_results_in_folders(davis: Path, year: int, expected: list[float]) -> None:
    (scores,) = score_results(
        davis.parent / "results", DavisDataset(davis, year, sequences=["two"])
    )
    assert [each.summary.region.mean for each in scores.objects] == expected


def test_results_that_are_missing_or_do_not_fit_are_named(davis: Path) -> None:
    dataset = DavisDataset(davis, 2017, sequences=["two"])
    results = davis.parent / "results"
    with pytest.raises(InputError, match=r"results folder .*nowhere does not exist"):
        score_results(davis / "nowhere", dataset)

    write_mask(results / "two/00003.png", TRUTH[:40])
    with pytest.raises(InputError, match=r"two/00003.png is 64x40 .* its frame is 64x48"):
        score_results(results, dataset)

    (results / "two/00003.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"two/00003.png is not a readable image"):
        score_results(results, dataset)

    (results / "two/00003.png").unlink()
    with pytest.raises(
        InputError, match=r"two/00003.png is missing; .* 3 frames that count and 1 "
    ):
        score_results(results, dataset)

    shutil.rmtree(results / "two")
    with pytest.raises(InputError, match=r"no results for sequence two: .*results/two does not"):
        score_results(results, dataset)


@pytest.mark.parametrize("absent", [["00000"], ["00004"], ["00000", "00004"]])
def test_results_that_do_not_count_need_not_be_there(davis: Path, absent: list[str]) -> None:
    dataset = DavisDataset(davis, 2017, sequences=["two"])
    results = davis.parent / "results"
    before = score_results(results, dataset)
    for frame in absent:
        (results / f"two/{frame}.png").unlink()
    assert score_results(results, dataset) == before


def test_results_of_frames_without_annotation_need_not_be_there(davis: Path) -> None:
    results = davis.parent / "results"
    for name in ("00001", "00003"):
        (davis / f"Annotations/480p/two/{name}.png").unlink()
    before = score_results(results, DavisDataset(davis, 2017, sequences=["two"]))
    assert before[0].objects[0].frames == ["00002"]
    for name in ("00000", "00001", "00003", "00004"):
        (results / f"two/{name}.png").unlink()
    assert score_results(results, DavisDataset(davis, 2017, sequences=["two"])) == before


def test_a_missing_prediction_of_a_frame_that_counts_is_refused() -> None:
    predictions = [None, TRUTH, None, TRUTH, None]
    with pytest.raises(InputError, match="two, frame 00002: there is no prediction"):
        score_sequence("two", FRAMES, predictions, [TRUTH] * 5)


def test_sequences_without_scores_are_in_the_reports(tmp_path: Path) -> None:
    unscored = SequenceScores("bear", 6, [], seconds=2.0)
    path = tmp_path / "scores.json"
    for sequences, mean in (([*SCORES, unscored], 0.444444), ([unscored], None)):
        report.write_json(path, sequences)
        assert report.read_json(path) == sequences
        found = json.loads(path.read_text())["mean"]["J-Mean"]
        assert found == (mean and pytest.approx(mean, abs=1e-6))
        assert printed(sequences)["bear"] == "bear 3.0"
        report.write_csv(tmp_path / "scores.csv", sequences)
        with (tmp_path / "scores.csv").open() as file:
            rows = {row["Sequence"]: row for row in csv.DictReader(file)}
        assert (rows["bear"]["Object"], rows["bear"]["J-Mean"], rows["bear"]["FPS"]) == (
            "",
            "",
            "3.0",
        )
        assert rows["mean"]["J-Mean"] == ("" if mean is None else str(mean))


def test_sequence_without_annotations_is_refused(davis: Path) -> None:
    sequence = replace(DavisDataset(davis, 2017, sequences=["two"])[0], masks=None)
    with pytest.raises(InputError, match="sequence two has no annotations"):
        score_folder(davis.parent / "results/two", sequence)


@needs_shared
@pytest.mark.parametrize("method", ["osvos", "agame", "stm"])
def test_published_scores_are_reproduced_on_every_frame(method: str) -> None:
    dataset = DavisDataset(SHARED / "data/DAVIS2016", split="val_visible")
    results = SHARED / "data/DAVIS2016_results"
    published = json.loads((results / "per_frame.json").read_text())[method]
    scores = score_results(results / method, dataset)
    assert [sequence.name for sequence in scores] == dataset.names
    assert set(dataset.names) == published.keys()
    for sequence in scores:
        (only,) = sequence.objects
        assert only.frames == dataset[sequence.name].frames.names[1:-1]
        for ours, theirs in zip(
            (only.region, only.contour),
            (published[sequence.name]["J"], published[sequence.name]["F"]),
            strict=True,
        ):
            assert len(ours) == len(theirs)
            # Three decimals were published; a value halfway between two lies 0.0005 from both.
            assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= 0.0005 + 1e-9
