"""The parts of the ridge method: principal channels, and the filter from sums over frames."""

import pytest
import torch
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.joining import join_levels
from innerloop_vos.data import synthetic_clip
from innerloop_vos.ridge import RidgeOptions, RidgeSegmenter, TargetFeatures, balance
from innerloop_vos.ridge.features import PrincipalChannels
from innerloop_vos.ridge.object_filter import ObjectFilter, shrink

SIZE = (96, 160)


@pytest.fixture(scope="module")
def clip():
    return synthetic_clip(length=3, size=SIZE, objects=1, seed=1)


@pytest.fixture(scope="module")
def levels(clip):
    """The levels of all frames, in double precision."""
    features = TargetFeatures(backbone("small")).double()
    with torch.no_grad():
        return [features(frame.double() / 255) for frame in clip[0]]


@pytest.fixture(scope="module")
def masks(clip):
    return (clip[1] > 0).double()


@pytest.mark.parametrize("area", [1, 7, 100])
def test_object_and_background_have_equal_weights(area):
    mask = torch.zeros(12, 20)
    mask.view(-1)[:area] = 1
    weights = balance(mask)
    torch.testing.assert_close((weights * mask).sum(), torch.tensor(0.5))
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


def test_all_channels_are_those_of_the_backbone_turned(levels, masks):
    weights = balance(shrink(masks[0], (12, 20)))
    plain = join_levels([level[None] for level in levels[1]], (12, 20))[0, :-1]
    found = PrincipalChannels.of(levels[0], weights, len(plain))(levels[1])
    assert found.shape == (len(plain) + 1, 12, 20)
    assert torch.equal(found[-1], torch.ones_like(found[-1]))

    def distances(maps):
        # Not by products, whose differences lose half of the digits.
        pixels = maps.flatten(1).T
        return torch.cdist(pixels, pixels, compute_mode="donot_use_mm_for_euclid_dist")

    torch.testing.assert_close(distances(found[:-1]), distances(plain))


def test_the_channels_are_those_of_largest_variance(levels, masks):
    weights = balance(shrink(masks[0], (12, 20)))
    channels = PrincipalChannels.of(levels[0], weights, 5)
    found = channels(levels[0])[:-1].flatten(1)
    covariance = (found * weights.flatten()) @ found.T
    plain = join_levels([level[None] for level in levels[0]], (12, 20))[0, :-1].flatten(1)
    plain = plain - (plain * weights.flatten()).sum(1, keepdim=True)
    largest = torch.linalg.eigvalsh((plain * weights.flatten()) @ plain.T)[-5:]
    torch.testing.assert_close(covariance, largest.diag())
    torch.testing.assert_close(found @ weights.flatten(), torch.zeros(5).double())


@pytest.mark.parametrize("solver", [il.Ridge(), il.ConjugateGradient()])
def test_the_filter_is_that_of_all_frames_with_their_shares(levels, masks, solver):
    options = RidgeOptions(
        solver=solver,
        steps=200,
        channels=8,
        regularization=0.1,
        learning_rate=0.25,
        first_weight=0.5,
    )
    target = ObjectFilter(options, levels[0], masks[0])
    seen = torch.stack([target.channels(each) for each in levels])
    for features, mask in zip(seen[1:], masks[1:], strict=True):
        target.update(features, mask)
    shares = torch.tensor([0.5 + 0.5 * 0.75**2, 0.5 * 0.75 * 0.25, 0.5 * 0.25]).double()
    labels = torch.stack([shrink(mask, (12, 20)) for mask in masks])
    weights = torch.stack([balance(label) for label in labels]) * shares[:, None, None]
    problem = il.ConvLeastSquares(seen, labels[:, None], weights.sqrt()[:, None], 0.1)
    expected = il.solve(problem, torch.zeros_like(target.filter), il.Ridge()).value
    torch.testing.assert_close(target.filter, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        target.score(seen[2]), F.conv2d(seen[2:], expected, padding=1)[0, 0], rtol=1e-6, atol=1e-6
    )


def test_given_frames_weigh_alike_and_what_was_found_is_forgotten(levels, masks):
    options = RidgeOptions(channels=8, regularization=0.1, learning_rate=0.25, first_weight=0.6)
    target = ObjectFilter(options, levels[0], masks[0])
    seen = torch.stack([target.channels(each) for each in levels])
    target.update(seen[2], 1 - masks[2])
    target.trust(seen[1], masks[1])
    target.update(seen[2], masks[2])
    given = 2 * 0.6 / (2 * 0.6 + 0.4)  # each as the first one, beside the average
    average = (1 - given) * 0.25
    shares = torch.tensor([(1 - average) / 2, (1 - average) / 2, average]).double()
    labels = torch.stack([shrink(mask, (12, 20)) for mask in masks])
    weights = torch.stack([balance(label) for label in labels]) * shares[:, None, None]
    problem = il.ConvLeastSquares(seen, labels[:, None], weights.sqrt()[:, None], 0.1)
    expected = il.solve(problem, torch.zeros_like(target.filter), il.Ridge()).value
    torch.testing.assert_close(target.filter, expected, rtol=1e-6, atol=1e-8)


def test_a_backbone_of_few_channels_keeps_them_all(levels, masks):
    few = [[level[:3] for level in each] for each in levels]
    target = ObjectFilter(RidgeOptions(), few[0], masks[0])
    assert target.filter.shape == (1, 10, 3, 3)


def test_an_objects_memory_does_not_grow_with_the_video(clip):
    frames, masks = clip
    segmenter = RidgeSegmenter(backbone("small"))
    segmenter.start(frames[0], masks[0])

    def size():
        found = []
        torch.utils._pytree.tree_map_only(torch.Tensor, found.append, segmenter.learned())
        return sum(tensor.untyped_storage().nbytes() for tensor in found)

    before = size()
    for frame in frames[1:]:
        segmenter.step(frame)
        assert size() == before < 10e6
