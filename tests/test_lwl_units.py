"""The parts of LWL's inference against reference numbers of the released system."""

import json

import pytest
import torch
from lwl_goldens import GOLDENS, load
from shared import needs_shared

from innerloop_vos.configuration.options import changed
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.tracking.memory import SampleWeights, TargetMemory
from innerloop_vos.lwl.tracking.moments import target_state
from innerloop_vos.lwl.tracking.motion import Motion
from innerloop_vos.lwl.tracking.region import first_sample, paste, search_region
from innerloop_vos.lwl.tracking.trust import consensus, far_parts
from innerloop_vos.segmenter import soft_aggregate


@pytest.fixture(scope="module")
def golden():
    return load("tracker_units.npz")


@needs_shared
@pytest.mark.parametrize(("case", "capacity"), [("std", 32), ("small", 4)])
def test_sample_weights_golden(golden, case, capacity):
    weights = SampleWeights(capacity, 0.1, 0.25)
    expected, slots = golden[f"sw.{case}"], golden[f"sw.{case}.ind"]
    torch.testing.assert_close(weights.values, expected[0])
    for row, slot in zip(expected[1:], slots.tolist(), strict=True):
        assert weights.add() == slot
        torch.testing.assert_close(weights.values, row, rtol=0, atol=1e-6)


def test_without_a_least_weight_the_first_sample_is_one_like_the_others():
    weights = SampleWeights(3, 0.2, None)
    weights.add()
    torch.testing.assert_close(weights.values, torch.tensor([0.5, 0.5, 0]))
    weights.add()
    torch.testing.assert_close(weights.values, torch.tensor([0.8, 0.8, 1]) / 2.6)
    assert weights.add() == 0


def test_objects_that_came_later_have_samples_of_weight_zero():
    memory = TargetMemory(4, 0.1, 0.25)
    memory.add_objects(torch.tensor([[[1.0]]]))
    memory.add_samples(torch.tensor([[2.0]]), of=torch.tensor([True]))
    memory.add_objects(torch.tensor([[[3.0]]]))
    samples, weights = memory.samples()
    assert samples.tolist() == [[[1.0], [2.0]], [[3.0], [0.0]]]
    torch.testing.assert_close(weights, torch.tensor([[1 / 1.09, 0.09 / 1.09], [1.0, 0.0]]))


def test_an_object_without_a_sample_of_a_frame_keeps_its_own():
    memory, alone = TargetMemory(4, 0.1, 0.25), TargetMemory(4, 0.1, 0.25)
    memory.add_objects(torch.tensor([[[1.0]], [[2.0]]]))
    alone.add_objects(torch.tensor([[[2.0]]]))
    for t in range(4):
        there = t != 1
        memory.add_samples(torch.tensor([[3.0 + t], [7.0 + t]]), of=torch.tensor([True, there]))
        if there:
            alone.add_samples(torch.tensor([[7.0 + t]]), of=torch.tensor([True]))
    (samples, weights), (expected, shares) = memory.samples(), alone.samples()
    assert samples[1].tolist() == expected[0].tolist()
    assert weights[1].tolist() == shares[0].tolist()
    assert samples[0].flatten().tolist() == [1.0, 6.0, 4.0, 5.0]


def test_several_samples_of_the_first_frame_count_as_the_first_one():
    memory = TargetMemory(3, 0.1, 0.25)
    memory.add_objects(torch.tensor([[[1.0], [2.0]]]))
    alone = TargetMemory(3, 0.1, 0.25)
    alone.add_objects(torch.tensor([[[1.0]]]))
    for value in (3.0, 4.0, 5.0, 6.0):
        memory.add_samples(torch.tensor([[value]]), of=torch.tensor([True]))
        alone.add_samples(torch.tensor([[value]]), of=torch.tensor([True]))
    (samples, weights), (expected, shares) = memory.samples(), alone.samples()
    assert samples.tolist() == [[[1.0], [2.0], *expected[0, 1:].tolist()]]
    assert weights.tolist() == [[shares[0, 0], *shares[0].tolist()]]


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


@pytest.mark.parametrize(("presence", "growth"), [(None, 1.0), (0.5, 1.1**3)])
def test_an_absent_object_is_looked_for_ever_further_around(presence, growth):
    mask = torch.zeros(2000, 2000, dtype=torch.bool)
    mask[900:1100, 900:1100] = True
    options = changed(LWLOptions(), output=(400, 400), border="replicate", presence=presence)
    target = Motion(options, mask)

    def sides():
        (top, bottom), (left, right) = target.region().rows, target.region().columns
        return bottom - top, right - left

    first = sides()
    assert first == pytest.approx((1000, 1000), abs=1)
    for _ in range(3):
        target.move((0.0, 0.0), (0.0, 0.0), 0.0)
    # Up to 3 pixels off, for of so large a region every third is used.
    assert sides() == pytest.approx((1000 * growth, 1000 * growth), abs=3)
    # Half a cell off, 8 pixels of the region, each 2.5 pixels of the frame and more.
    assert sum(target.region().columns) / 2 == pytest.approx(1000 + 20 * growth, abs=3)
    for _ in range(100):
        target.move((0.0, 0.0), (0.0, 0.0), 0.0)
    assert max(sides()) < 1.2 * 2 * 2000
    target.move((1250.0, 1250.0), target.size, 400.0)
    assert sides() == pytest.approx(first, abs=1)


def test_what_is_the_object_in_colour_alone_counts_little_and_is_not_learned():
    # The mask's score and a further one: less in colour, as much, more, and far more.
    coloured = torch.tensor([[0.1, 0.8, 0.8, 1.2, 1.5], [1.0, 2.0, 3.0, 4.0, 5.0]])[None, :, None]
    plain = torch.tensor([[0.3, 0.8, 0.6, 0.7, 0.1], [0.0, 0.0, 4.0, 0.0, 0.0]])[None, :, None]
    shown, learned = consensus(coloured, plain)
    torch.testing.assert_close(shown[0, 0, 0], torch.tensor([0.1, 0.8, 0.76, 0.95, 0.1]))
    torch.testing.assert_close(shown[0, 1, 0], torch.tensor([1.0, 2.0, 3.2, 2.0, 0.0]))
    torch.testing.assert_close(learned[0, 0, 0], torch.tensor([0.1, 0.8, 0.6, 0.7, 0.1]))
    assert torch.equal(consensus(coloured, coloured)[0], coloured)


def blobs(*boxes):
    logits = torch.full((1, 96, 160), -5.0)
    for top, left, side in boxes:
        logits[0, top : top + side, left : left + side] = 5.0
    return logits


def test_parts_far_from_where_the_object_was_are_found():
    before = blobs((40, 20, 24)) > 0
    near, far, there = (44, 28, 24), (8, 120, 16), (40, 60, 8)
    found = far_parts(blobs(near, far), before, 0.5, 100)
    assert found[0, 8:24, 120:136].all()
    assert not found[0, :, :80].any()
    # 16 pixels from the object, whose area has the root 24.
    assert not far_parts(blobs(near, there), before, 1.0, 100).any()
    assert far_parts(blobs(near, there), before, 0.5, 100)[0, 40:48, 60:68].all()


@pytest.mark.parametrize(
    ("before", "parts"),
    [
        ((40, 20, 8), [(40, 20, 8), (8, 120, 16)]),  # an object that is hardly seen
        ((40, 20, 24), [(8, 120, 16)]),  # one that is nowhere else
        ((40, 20, 24), []),
    ],
)
def test_an_object_may_come_back_anywhere(before, parts):
    assert not far_parts(blobs(*parts), blobs(before) > 0, 0.5, 100).any()
