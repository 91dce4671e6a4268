"""LWL on video: the released system's run on a short clip."""

import json

import pytest
import torch
from lwl_goldens import GOLDENS, load, seeded_state
from shared import needs_shared

from innerloop_vos.configuration.options import changed
from innerloop_vos.lwl import LWLOptions, LWLSegmenter, lwl_resnet50
from innerloop_vos.lwl.tracking.moments import target_state


class Recorder(LWLSegmenter):
    """Keeps the patches that the network was given."""

    patches = None

    def track(self, encoded):
        found = super().track(encoded)
        self.patches = [255 * region.crop(encoded) for region in found.regions]
        return found


def memory_state(segmenter):
    return [
        {
            "sample_weights": weights.values.tolist(),
            "num_stored": weights.count,
            "prev_ind": weights.latest,
            "filter_norm": filters.norm().item(),
            "filter_head": filters.flatten()[:6].tolist(),
        }
        for weights, filters in zip(segmenter.memory.weights, segmenter.filters, strict=True)
    ]


@pytest.fixture(scope="module")
def golden():
    return load("tracker.npz") | json.loads((GOLDENS / "tracker_ytvos.json").read_text())


@pytest.fixture(scope="module")
def network():
    network = lwl_resnet50()
    network.load_state_dict(seeded_state())
    return network


@pytest.fixture(scope="module")
def run(golden, network):
    """A row a frame: labels, probabilities, and what is known of each tracked object."""
    segmenter = Recorder(network, changed(LWLOptions(), output=(96, 160), capacity=4))
    frames, masks = golden["frames"].permute(0, 3, 1, 2), golden["masks"]
    first = masks[0] * (masks[0] < 3)
    rows = [{"labels": segmenter.start(frames[0], first), "raw": segmenter.probabilities[1:]}]
    for t in range(1, 9):
        before = memory_state(segmenter)  # the released system learns from a frame in the next one
        labels = segmenter.step(frames[t], masks[t] * (masks[t] == 3) if t == 3 else None)
        tracked = len(before)
        rows.append(
            {
                "labels": labels,
                "raw": segmenter.probabilities[1:],
                "memory": before + memory_state(segmenter)[tracked:],
                "targets": [vars(target) | {"size": target.size} for target in segmenter.motions],
                "regions": segmenter.observation.regions[:tracked],
                "patches": segmenter.patches,
            }
        )
    return rows


@needs_shared
def test_masks_golden(run, golden):
    found = torch.stack([row["labels"] for row in run])
    wrong = (found != golden["ytvos.seg"]).float().mean((1, 2))
    assert wrong.max() <= 0.0005
    for t in (0, 1, 3, 8):
        expected = golden[f"ytvos.raw{t}"].float()
        torch.testing.assert_close(run[t]["raw"], expected, rtol=0, atol=1e-3)


@needs_shared
def test_states_golden(run, golden):
    assert len(golden["state"]) == 22
    for row in golden["state"]:
        t, i = row["t"], int(row["obj"]) - 1
        target, memory = run[t]["targets"][i], run[t]["memory"][i]
        assert target["position"] == pytest.approx(row["pos"], abs=0.02)
        assert target["size"] == pytest.approx(row["target_sz"], abs=0.02)
        assert target["base_size"] == pytest.approx(row["base_target_sz"], abs=0.02)
        assert target["scale"] == pytest.approx(row["target_scale"], rel=1e-3)
        assert memory["sample_weights"] == pytest.approx(row["sample_weights"], abs=1e-6)
        assert [memory["num_stored"]] == row["num_stored"]
        assert [memory["prev_ind"]] == row["prev_ind"]
        assert memory["filter_norm"] == pytest.approx(row["filter_norm"], rel=1e-3)
        error = torch.tensor(memory["filter_head"]) - torch.tensor(row["filter_head"])
        assert error.abs().max() <= 1e-3 * max(map(abs, row["filter_head"]))
        centre, size, _ = (part[0] for part in target_state(run[t]["raw"][i : i + 1]))
        box = torch.cat([(centre - (size - 1) / 2).flip(0), size.flip(0)])
        assert box.tolist() == pytest.approx(row["bbox"], abs=0.02)


@needs_shared
def test_search_regions_golden(run, golden):
    assert len(golden["crops"]) == 21
    frames = iter([(t, i) for t, row in enumerate(run) if t for i in range(len(row["regions"]))])
    for j, ((t, i), row) in enumerate(zip(frames, golden["crops"], strict=True)):
        assert i == int(row["obj"]) - 1
        region = run[t]["regions"][i]
        coords = [region.rows[0], region.columns[0], region.rows[1], region.columns[1]]
        assert coords == row["coords"]
        if f"ytvos.patch{j}" in golden:
            expected = golden[f"ytvos.patch{j}"]
            torch.testing.assert_close(run[t]["patches"][i], expected, rtol=0, atol=1e-3)


@needs_shared
def test_lower_precision_finds_about_the_same_masks(golden, network, monkeypatch):
    monkeypatch.setattr(network, "autocast", torch.bfloat16)
    options = changed(LWLOptions(), output=(96, 160), capacity=4)
    segmenter = LWLSegmenter(network, options)
    frames, masks = golden["frames"].permute(0, 3, 1, 2), golden["masks"]
    segmenter.start(frames[0], masks[0] * (masks[0] < 3))
    for t in (1, 2):
        labels = segmenter.step(frames[t])
        assert (labels != golden["ytvos.seg"][t]).float().mean() <= 0.001
    assert segmenter.filters.dtype == segmenter.probabilities.dtype == torch.float32
