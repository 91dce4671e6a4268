"""J, F, their statistics and the report, against hand-computed and published numbers."""

import pytest
import torch

from innerloop_vos.errors import InputError
from innerloop_vos.scoring.boundary import contour_accuracy
from innerloop_vos.scoring.jaccard import region_similarity


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
def test_empty_masks(measure) -> None:
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
        (SQUARE[:40], "prediction is 40x64 pixels but truth is 48x64"),
        (SQUARE[None], r"prediction must be an \(H, W\) mask .* got torch.uint8 of shape \(1, 48"),
        (SQUARE / 2, "prediction must be .* got torch.float32"),
    ],
)
def test_bad_masks_are_refused(measure, prediction: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(prediction, SQUARE)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_bad_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(InputError, match="tolerance must be finite"):
        contour_accuracy(SQUARE, SQUARE, tolerance)
