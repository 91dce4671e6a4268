"""The benchmark on Omniglot's official runs: what it reads, and what its learners learn."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from shared import SHARED

from innerloop.errors import InputError

for package in ("learn2learn", "sklearn", "torchvision"):
    pytest.importorskip(package, reason=f"the benchmark needs {package}, which is not installed")

omniglot = import_module("benchmarks.core.omniglot")

DATA = SHARED / "data/extra/omniglot_small"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs Omniglot's small sets in ../shared/data/extra/omniglot_small"
)


@needs_data
def test_the_official_runs_are_read_and_learned():
    runs = omniglot.official_runs(DATA)
    assert len(runs) == 20
    for support, classes, query, labels in runs:
        assert support.shape == query.shape == (20, 1, 28, 28)
        assert classes.tolist() == sorted(labels.tolist()) == list(range(20))
        assert 0 < support.mean() < 0.3  # ink is 1, paper is 0
    # The first test drawing of run 1 is of the eighth class, as its table says.
    assert runs[0][3][0] == 7

    train = [torch.rand(4, 1, 28, 28) for _ in range(20)]
    settings = replace(omniglot.experiment(train, iterations=1, batch=1, width=4), steps=1)
    rows = omniglot.compare(train, runs[:2], settings, seeds=1)
    assert [row["learner"] for row in rows] == list(omniglot.LEARNERS)
    for row in rows:
        assert len(row["accuracies"]) == 2
        assert all(0 <= value <= 100 for value in row["accuracies"] + row["untrained"])
    # learn2learn takes the same step as this library.
    own, other = (
        row["accuracies"] for row in rows if row["learner"] in ("MAML", "MAML, learn2learn")
    )
    assert own == other
    assert set(omniglot.summary(rows)) == set(omniglot.LEARNERS)


def test_missing_archives_are_named(tmp_path):
    with pytest.raises(InputError, match=r"--data: .* has no images_background\*\.zip"):
        omniglot.characters(tmp_path)
    with pytest.raises(InputError, match=r"has no all_runs\.zip"):
        omniglot.official_runs(tmp_path)


def test_the_spread_is_over_runs_and_over_seeds():
    rows = [
        {"learner": "a", "accuracies": scores, "untrained": [5.0, 5.0], "cpu_seconds": 1.0}
        for scores in ([40.0, 60.0], [50.0, 90.0])
    ]
    found = omniglot.summary(rows)["a"]
    assert found["mean"] == 60
    assert found["over_runs"] == 15  # of 45 and 75
    assert found["over_seeds"] == 10  # of 50 and 70
