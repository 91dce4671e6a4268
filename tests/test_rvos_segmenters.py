"""RVOS on video and on images: objects that are given, and objects that are found."""

import argparse

import pytest
import torch
from continuing import check_goes_on
from rvos_tiny import tiny

from innerloop._states import read_state, write_state
from innerloop.errors import InputError
from innerloop_vos.data import synthetic_clip
from innerloop_vos.methods.interface import MethodOptions
from innerloop_vos.methods.registry import add_method_arguments, build_segmenter
from innerloop_vos.methods.rvos import build_zero_shot
from innerloop_vos.rvos import (
    RVOSOptions,
    RVOSSegmenter,
    RVOSZeroShotSegmenter,
    ZeroShotOptions,
    instances,
    rvos,
    save_rvos,
)
from innerloop_vos.unsupervised import UnsupervisedSegmenter


@pytest.fixture(scope="module")
def clip():
    return synthetic_clip(length=5, size=(90, 150), objects=2, seed=1)


def eager(bias, **sizes):
    """A network that finds objects, many of them where the bias is high."""
    network = tiny(**sizes)
    torch.nn.init.constant_(network.decoder.stop.bias, bias)
    return network


@pytest.mark.parametrize("options", [{}, {"short_side": 64}, {"half": True}])
@pytest.mark.parametrize("recurrence", ["S", "T", "ST"])
def test_given_objects_are_followed(clip, options, recurrence):
    frames, masks = clip
    segmenter = RVOSSegmenter(tiny(recurrence), RVOSOptions(**options))
    first = masks[0] * (masks[0] == 2)
    assert torch.equal(segmenter.start(frames[0], first), first)
    for t in range(1, 5):
        labels = segmenter.step(frames[t], masks[t] if t == 2 else None)
        assert labels.shape == (90, 150)
        torch.testing.assert_close(segmenter.probabilities.sum(0), torch.ones(90, 150))
    assert segmenter.ids == [2, 1]
    assert len(segmenter.states) == 2


def test_an_object_knows_where_it_was_and_what_is_beside_it(clip):
    frames, masks = clip
    found = []
    for given in (
        masks[0],
        masks[0] * (masks[0] == 1),
        masks[0] * (masks[0] == 1) * (masks[1] > 0),
    ):
        segmenter = RVOSSegmenter(tiny())
        segmenter.start(frames[0], given)
        segmenter.step(frames[1])
        found.append(segmenter.observation.logits)
    # Objects before an object are not told of it, the other way round they are.
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[1][0], found[2][0], atol=0.1)
    segmenter.start(frames[0], (masks[0] == 2) * masks[0])
    segmenter.step(frames[1])
    assert not torch.allclose(segmenter.observation.logits[0], found[0][1], atol=0.1)


def test_the_state_of_an_object_does_not_grow(clip):
    frames, masks = clip
    segmenter = RVOSSegmenter(tiny())

    def kept():
        return sum(
            part.numel() for states in segmenter.states for state in states for part in state
        )

    segmenter.start(frames[0], masks[0])
    before = kept()
    for frame in frames[1:]:
        segmenter.step(frame)
        assert kept() == before


@pytest.mark.parametrize("recurrence", ["S", "ST"])
def test_given_objects_go_on_from_a_state(clip, tmp_path, recurrence):
    frames, masks = clip
    first = masks[0] * (masks[0] == 2)
    check_goes_on(
        lambda: RVOSSegmenter(tiny(recurrence)), frames, {0: first, 2: masks[2]}, tmp_path
    )


@pytest.mark.parametrize(
    "box", [(0, 0, 20, 15), (100, 60, 50, 30), (70, 30, 1, 40), (0, 0, 150, 90)]
)
def test_the_mask_of_a_box_lies_in_it(clip, box):
    frame = clip[0][0]
    segmenter = RVOSSegmenter(tiny())
    mask = segmenter.mask_from_box(frame, box)
    x, y, width, height = box
    assert mask.dtype == torch.uint8
    assert mask.any()
    assert mask.sum() == mask[y : y + height, x : x + width].sum()
    with pytest.raises(InputError, match="box"):
        segmenter.mask_from_box(frame, (140, 0, 20, 20))


def test_a_box_in_which_nothing_is_found_is_the_mask(clip):
    network = tiny()
    torch.nn.init.constant_(network.decoder.mask.bias, -1e3)
    mask = RVOSSegmenter(network).mask_from_box(clip[0][0], (10, 20, 30, 40))
    assert mask.sum() == 1200


def seven(frame):
    labels = torch.zeros(frame.shape[1:], dtype=torch.uint8)
    for index in range(7):
        labels[10 : 10 + 4 * index + 4, 20 * index : 20 * index + 15] = index + 1
    return labels


def test_odd_videos_of_given_objects_are_segmented(clip):
    frames, masks = clip
    segmenter = RVOSSegmenter(tiny())
    blank = torch.zeros_like(frames[0])
    videos = {
        "one frame": ([frames[0]], masks[0]),
        "blank": ([blank] * 3, masks[0]),
        "seven objects": (frames, seven(frames[0])),
        # The objects leave and return.
        "gone": ([frames[0], blank, blank, frames[0]], masks[0]),
        "the whole frame": (frames[:2], torch.ones_like(masks[0])),
    }
    for name, (shown, given) in videos.items():
        segmenter.start(shown[0], given)
        for frame in shown[1:]:
            labels = segmenter.step(frame)
            assert set(labels.unique().tolist()) <= {0, *segmenter.ids}, name
            assert segmenter.probabilities.isfinite().all(), name


@pytest.mark.parametrize("options", [{}, {"short_side": 64}, {"half": True}])
@pytest.mark.parametrize("recurrence", ["S", "T", "ST"])
def test_objects_are_found(clip, options, recurrence):
    frames, _ = clip
    segmenter = RVOSZeroShotSegmenter(
        eager(50.0, recurrence=recurrence), ZeroShotOptions(objects=4, **options)
    )
    segmenter.start(frames)
    for frame in frames:
        labels = segmenter.step(frame)
        assert labels.shape == (90, 150)
        assert labels.dtype == torch.uint8
        assert labels.max() <= 4
    assert segmenter.known == len(segmenter.states) == 4


def test_a_search_that_stops_at_once_finds_nothing(clip):
    frames, _ = clip
    segmenter = RVOSZeroShotSegmenter(eager(-50.0))
    segmenter.start(frames)
    assert not any(segmenter.step(frame).any() for frame in frames)
    assert segmenter.known == 0
    assert len(segmenter.states) == 1  # of what may become an object


def test_an_object_that_was_found_stays_and_others_may_come(clip):
    frames, _ = clip
    network = eager(50.0)
    segmenter = RVOSZeroShotSegmenter(network)
    segmenter.start(frames)
    counts = []
    for frame, bias, most in zip(frames, (-50, 50, -50, 50, -50), (3, 1, 3, 3, 3), strict=True):
        torch.nn.init.constant_(network.decoder.stop.bias, bias)
        segmenter.options = ZeroShotOptions(objects=most)
        segmenter.step(frame)
        counts.append((segmenter.known, len(segmenter.states)))
    assert counts == [(0, 1), (1, 1), (1, 2), (3, 3), (3, 3)]


@torch.no_grad()
def searched(network, frame, before=None):
    """Logits, scores and states of three objects, one after the other."""
    seen = network.see(frame.float()[None] / 255)
    found = []
    for index in range(3):
        own = before[index] if before else None
        found.append(network.segment(seen, None, own, found[-1].states if found else None))
    return (
        torch.cat([each.logits for each in found]),
        torch.cat([each.score for each in found]),
        [each.states for each in found],
    )


def test_ids_follow_the_order_of_the_search(clip):
    frames, _ = clip
    network = eager(50.0)
    segmenter = RVOSZeroShotSegmenter(network, ZeroShotOptions(objects=3))
    segmenter.start(frames)
    states = None
    for frame in frames:
        labels = segmenter.step(frame)
        logits, _, states = searched(network, frame, states)
        best = logits.max(0)
        shown = best.values > 0
        assert shown.any()
        assert torch.equal(labels.long()[shown], best.indices[shown] + 1)


def test_the_search_goes_on_from_a_state(clip, tmp_path):
    frames, _ = clip

    def make():
        segmenter = RVOSZeroShotSegmenter(eager(0.0), ZeroShotOptions(objects=3))
        segmenter.start(frames)
        return segmenter

    whole, found = make(), []
    for index, frame in enumerate(frames):
        found.append(whole.step(frame))
        write_state(tmp_path / f"{index}.pt", whole.state_dict())
    for begin in range(1, len(frames)):
        segmenter = make()
        segmenter.load_state_dict(read_state(tmp_path / f"{begin - 1}.pt"))
        for index in range(begin, len(frames)):
            assert torch.equal(segmenter.step(frames[index]), found[index])


def test_odd_videos_are_searched(clip):
    frames, _ = clip
    blank = torch.zeros_like(frames[0])
    segmenter = RVOSZeroShotSegmenter(eager(0.0))
    for shown in ([frames[0]], [blank] * 3, [frames[0], blank, frames[0]]):
        segmenter.start(shown)
        for frame in shown:
            assert segmenter.step(frame).shape == frame.shape[1:]
        assert segmenter.known <= 10
    with pytest.raises(InputError, match="frame"):
        segmenter.step(frames[0][:, :50])


def test_instances_of_an_image_are_found_one_after_the_other(clip):
    image = clip[0][0]
    network = eager(50.0)
    found = instances(network, image, ZeroShotOptions(objects=3))
    logits, scores, _ = searched(network, image)
    assert found.masks.shape == (3, 90, 150)
    assert torch.equal(found.masks, logits > 0)
    assert torch.equal(found.scores, scores.sigmoid())
    small = instances(network, image, ZeroShotOptions(objects=2, short_side=64))
    assert small.masks.shape == (2, 90, 150)
    nothing = instances(eager(-50.0), image)
    assert nothing.masks.shape == (0, 90, 150)
    assert nothing.scores.shape == (0,)
    with pytest.raises(InputError, match="frame"):
        instances(network, image.float())


def test_the_whole_network_fits_into_8_mb(tmp_path):
    network = rvos()
    save_rvos(network, tmp_path / "net.safetensors")
    assert (tmp_path / "net.safetensors").stat().st_size < 8e6


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (RVOSOptions, "short_side", 8),
        (ZeroShotOptions, "short_side", 8),
        (ZeroShotOptions, "objects", 0),
        (ZeroShotOptions, "objects", 255),
        (ZeroShotOptions, "threshold", 1.0),
    ],
)
def test_settings_out_of_range_are_named(kind, name, value):
    with pytest.raises(ValueError, match=name):
        kind(**{name: value})


def test_the_command_line_builds_it(tmp_path):
    path = tmp_path / "net.safetensors"
    save_rvos(tiny(), path)
    parser = argparse.ArgumentParser()
    add_method_arguments(parser)
    line = f"--method rvos --weights {path} --option short_side=64 --device cpu"
    segmenter = build_segmenter(parser.parse_args(line.split()))
    assert isinstance(segmenter, RVOSSegmenter)
    assert segmenter.options.short_side == 64
    for words, message in (
        ("--backbone small", "backbone"),
        ("--speed fast", "speed"),
        ("--solver exact", "solver"),
        ("--option objects=3", "objects"),
    ):
        with pytest.raises(InputError, match=message):
            build_segmenter(parser.parse_args([*line.split(), *words.split()]))


def test_the_search_is_built_with_its_own_settings(tmp_path):
    path = tmp_path / "net.safetensors"
    save_rvos(tiny(), path)
    options = MethodOptions(None, None, None, 10, True, ("objects=3", "threshold=0.7"))
    segmenter = build_zero_shot(options, str(path), torch.device("cpu"))
    assert isinstance(segmenter, UnsupervisedSegmenter)
    assert segmenter.options == ZeroShotOptions(objects=3, threshold=0.7)
