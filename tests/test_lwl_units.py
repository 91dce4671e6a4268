"""The parts of LWL's inference against reference numbers of the released system."""

import json

import pytest
import torch
from lwl_goldens import GOLDENS, load
from shared import needs_shared

from innerloop_vos.lwl.options import MemoryOptions
from innerloop_vos.lwl.tracking.memory import SampleWeights, TargetMemory
from innerloop_vos.lwl.tracking.moments import target_state
from innerloop_vos.lwl.tracking.region import first_sample, paste, search_region
from innerloop_vos.segmenter import soft_aggregate


@pytest.fixture(scope="module")
def golden():
    return load("tracker_units.npz")


@needs_shared
@pytest.mark.parametrize(("case", "capacity"), [("std", 32), ("small", 4)])
def test_sample_weights_golden(golden, case, capacity):
    weights = SampleWeights(MemoryOptions(capacity, 0.1, 0.25))
    expected, slots = golden[f"sw.{case}"], golden[f"sw.{case}.ind"]
    torch.testing.assert_close(weights.values, expected[0])
    for row, slot in zip(expected[1:], slots.tolist(), strict=True):
        assert weights.add() == slot
        torch.testing.assert_close(weights.values, row, rtol=0, atol=1e-6)


def test_without_a_least_weight_the_first_sample_is_one_like_the_others():
    weights = SampleWeights(MemoryOptions(3, 0.2, None))
    weights.add()
    torch.testing.assert_close(weights.values, torch.tensor([0.5, 0.5, 0]))
    weights.add()
    torch.testing.assert_close(weights.values, torch.tensor([0.8, 0.8, 1]) / 2.6)
    assert weights.add() == 0


@pytest.mark.parametrize(("rate", "first_weight"), [(0.1, 0.0), (0.2, None)])
def test_the_weights_of_the_paper_are_a_geometric_sequence(rate, first_weight):
    capacity, total = 4, 9
    options = MemoryOptions(capacity, rate, first_weight, geometric=True)
    weights, times = SampleWeights(options), [0] * capacity
    for t in range(1, total):
        times[weights.add()] = t
        kept = set(range(max(0, t - capacity + 1), t + 1))
        if first_weight is not None and 0 not in kept:  # the first stays, the oldest other leaves
            kept = (kept - {min(kept)}) | {0}
        assert set(times[: weights.count]) == kept
        expected = torch.tensor([(1 - rate) ** -time for time in times[: weights.count]])
        torch.testing.assert_close(weights.values[: weights.count], expected / expected.sum())


@pytest.mark.parametrize(("first_weight", "least"), [(0.25, 0.25), (0.0, 0.0), (None, 0.25)])
@pytest.mark.parametrize("geometric", [False, True])
def test_samples_whose_masks_were_given_are_never_replaced(first_weight, least, geometric):
    weights = SampleWeights(MemoryOptions(3, 0.1, first_weight, geometric))
    weights.add()
    # Only a first mask from a box makes room for a better one.
    assert weights.trust(shown=True) == (0 if first_weight is None else 1)
    given = weights.trust(shown=False) + 1
    torch.testing.assert_close(weights.values[:given], torch.full((given,), 1 / given))
    assert not weights.values[given:].any()
    slots = []
    for _ in range(40):
        slots.append(weights.add())
        assert weights.values[:given].unique().numel() == 1
        assert weights.values[0] >= 0.999 * least
    assert set(slots) == set(range(given, len(weights.values)))
    assert slots[2] == given + 2 if first_weight is None else slots[2] == given


def test_an_object_keeps_its_only_sample_where_it_is_said_to_be_absent():
    weights = SampleWeights(MemoryOptions(3, 0.1, None))
    assert weights.trust(shown=False) == 1
    assert weights.given == 2


def test_a_memory_of_given_samples_grows_by_one_a_correction():
    memory = TargetMemory(MemoryOptions(2, 0.1, 0.25))
    memory.add_objects(torch.tensor([[1.0]]))
    memory.add_samples(torch.tensor([[2.0]]))
    memory.trust([True], torch.tensor([[3.0]]))
    memory.add_objects(torch.tensor([[4.0]]))
    for value in (5.0, 6.0):
        memory.add_samples(torch.tensor([[value], [value]]))
    samples, weights = memory.samples()
    assert samples[0].flatten().tolist() == [1, 3, 6]
    assert samples[1, 0] == 4
    assert weights[0, 0] == weights[0, 1] >= 0.25
    memory.keep([1])
    assert memory.samples()[0][:, 0].tolist() == [[4]]


def test_objects_that_came_later_have_samples_of_weight_zero():
    memory = TargetMemory(MemoryOptions(4, 0.1, 0.25))
    memory.add_objects(torch.tensor([[1.0]]))
    memory.add_samples(torch.tensor([[2.0]]))
    memory.add_objects(torch.tensor([[3.0]]))
    samples, weights = memory.samples()
    assert samples.tolist() == [[[1.0], [2.0]], [[3.0], [0.0]]]
    torch.testing.assert_close(weights, torch.tensor([[1 / 1.09, 0.09 / 1.09], [1.0, 0.0]]))


@needs_shared
def test_target_state_golden(golden):
    for case in range(3):
        centres, sizes, areas = target_state(golden[f"ts{case}.p"][None])
        torch.testing.assert_close(centres[0], golden[f"ts{case}.c"], rtol=0, atol=1e-4)
        torch.testing.assert_close(sizes[0], golden[f"ts{case}.sz"], rtol=0, atol=1e-4)
        assert areas[0] > 100


@needs_shared
def test_merging_golden(golden):
    merged = soft_aggregate(golden["merge.in"])
    torch.testing.assert_close(merged[1:], golden["merge.raw"], rtol=0, atol=1e-6)
    assert torch.equal(merged.argmax(0).byte(), golden["merge.seg"])
    centres, sizes, _ = target_state(merged[1:])
    boxes = torch.cat([(centres - (sizes - 1) / 2).flip(1), sizes.flip(1)], dim=1)
    torch.testing.assert_close(boxes.double(), golden["merge.bbox"], rtol=0, atol=1e-3)


@needs_shared
def test_cropping_golden(golden):
    cases = {
        name: arguments
        for name, *arguments in json.loads((GOLDENS / "sample_patch_cases.json").read_text())
        if f"{name}.patch" in golden
    }
    assert len(cases) == 15
    for name, (position, size, output) in cases.items():
        border = name.partition(".")[2]
        region = search_region(position, size, (70, 110), tuple(output), border)
        found = [region.rows[0], region.columns[0], region.rows[1], region.columns[1]]
        assert found == golden[f"{name}.coord"][0].tolist(), name
        patch = region.crop(golden["sp.im"][0])[0]
        torch.testing.assert_close(patch, golden[f"{name}.patch"][0, 0], rtol=0, atol=1e-3)
        if border != "replicate":
            mask = region.crop_mask(golden["sp.m"][0, 0])
            assert torch.equal(mask, golden[f"{name}.mask"][0, 0]), name


@needs_shared
def test_pasting_golden(golden):
    scales = [(0.53, (30, 50)), (1.2, (35, 55)), (0.4, (5, 100))]
    for case, (scale, position) in enumerate(scales):
        scale = torch.tensor(scale).item()
        found = paste(golden[f"cv{case}.in"][0, 0], scale, position, (70, 110))
        torch.testing.assert_close(found, golden[f"cv{case}.out"], rtol=0, atol=1e-3)


@needs_shared
@pytest.mark.parametrize("case", ["gi0", "gi1"])
def test_first_sample_golden(golden, case):
    patch, mask = first_sample(
        golden["sp.im"][0], golden["sp.m"][0, 0], golden[f"{case}.bb"].tolist(), (48, 80)
    )
    torch.testing.assert_close(patch[0], golden[f"{case}.patch"][0, 0], rtol=0, atol=1e-3)
    assert torch.equal(mask, golden[f"{case}.mask"][0, 0])


def test_a_region_outside_the_frame_pastes_nothing():
    found = paste(torch.zeros(8, 8), 1.0, (-50.0, 200.0), (20, 30))
    assert (found == -100).all()


def test_cropping_and_pasting_undo_each_other():
    mask = torch.zeros(60, 80)
    mask[20:40, 30:50] = 1
    region = search_region((30, 40), (40, 60), (60, 80), (80, 120))
    back = region.paste(20 * region.crop(mask[None])[0] - 10, (60, 80)) > 0
    assert (back != mask.bool()).sum() <= 2 * (20 + 20)
