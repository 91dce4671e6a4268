"""The results of the benchmarks can be drawn from their JSON files."""

import json

import pytest

from benchmarks import pictures

# What `innerloop compare` writes beside its tables is not kept.
RESULTS = sorted(
    path for path in pictures.HERE.glob("*/results/**/*.json") if path.name != "compare.json"
)


@pytest.mark.parametrize("pattern", pictures.PICTURES)
def test_results_are_drawn(pattern, tmp_path):
    path = min(pictures.HERE.glob(pattern))
    picture = tmp_path / f"{path.stem}.png"
    pictures.PICTURES[pattern](json.loads(path.read_text(encoding="utf-8")), picture)
    assert picture.stat().st_size > 5000


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: str(path.relative_to(pictures.HERE)))
def test_results_are_small_and_drawn_by_one_function(path):
    patterns = [p for p in pictures.PICTURES if path in pictures.HERE.glob(p)]
    assert len(patterns) == (path.parent.name != "kills")
    assert path.stat().st_size < 100_000
