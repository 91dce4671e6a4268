"""RVOS's losses: the soft intersection over union, the matching, and the stop."""

import itertools
import math

import pytest
import torch

from innerloop_vos.rvos.training.losses import (
    found_loss,
    given_loss,
    match,
    soft_iou,
    stop_loss,
)


def probabilities(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def test_of_binary_masks_the_soft_iou_is_the_iou():
    predicted, true = probabilities(3, 50) > 0.5, probabilities(2, 50, seed=1) > 0.3
    found = soft_iou(predicted.double(), true.double())
    for p, o in itertools.product(range(3), range(2)):
        both, either = (predicted[p] & true[o]).sum(), (predicted[p] | true[o]).sum()
        assert found[p, o] == pytest.approx(float(both / either))


def test_the_soft_iou_is_bounded():
    predicted, true = probabilities(4, 30), (probabilities(3, 30, seed=1) > 0.5).double()
    found = soft_iou(predicted, true)
    assert (found > 0).all()
    assert (found < 1).all()
    torch.testing.assert_close(soft_iou(true, true).diagonal(), torch.ones(3, dtype=torch.float64))
    assert soft_iou(1 - true, true).diagonal().eq(0).all()
    nothing = torch.zeros(1, 30, dtype=torch.float64)
    assert soft_iou(nothing, nothing) == 0
    assert soft_iou(predicted, nothing).eq(0).all()


def test_the_derivative_of_the_soft_iou_is_that_of_finite_differences():
    true = (probabilities(2, 12, seed=1) > 0.5).double()
    predicted = probabilities(3, 12).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: soft_iou(p, true), predicted)
    gradient = torch.autograd.grad(soft_iou(predicted, true)[0, 0], predicted)[0][0]
    # More of the object is better, more of anything else is worse.
    assert (gradient[true[0] == 1] > 0).all()
    assert (gradient[true[0] == 0] < 0).all()


@pytest.mark.parametrize(("predictions", "objects"), [(4, 4), (5, 3), (2, 4), (1, 1), (0, 2)])
def test_the_matching_is_the_best_of_all(predictions, objects):
    for seed in range(10):
        agreement = probabilities(predictions, objects, seed=seed)
        ours, theirs = match(agreement)
        count = min(predictions, objects)
        assert len(ours.unique()) == len(theirs.unique()) == len(ours) == len(theirs) == count
        best = max(
            sum(agreement[p, o].item() for p, o in zip(some, others, strict=True))
            for some in itertools.permutations(range(predictions), count)
            for others in itertools.combinations(range(objects), count)
        )
        assert agreement[ours, theirs].sum().item() == pytest.approx(best)


def clip(seed=0):
    """Logits of five predictions, and masks of three objects, over two frames."""
    logits = 4 * probabilities(2, 5, 6, 7, seed=seed) - 2
    return logits, (probabilities(2, 3, 6, 7, seed=seed + 1) > 0.5).double()


def test_found_objects_are_compared_in_the_best_order():
    logits, masks = clip()
    expected = min(
        1
        - sum(
            soft_iou(logits[:, p].sigmoid().flatten()[None], masks[:, o].flatten()[None]).item()
            for o, p in enumerate(order)
        )
        / 3
        for order in itertools.permutations(range(3))
    )
    assert found_loss(logits, masks).item() == pytest.approx(expected)
    order = torch.tensor([2, 0, 1])
    assert found_loss(logits, masks[:, order]).item() == pytest.approx(expected)
    orders = itertools.permutations(range(3))
    given = [given_loss(logits, masks[:, list(order)]).item() for order in orders]
    assert min(given) == pytest.approx(expected)
    assert max(given) > expected + 1e-3


def test_what_is_matched_with_nothing_is_not_in_the_loss():
    logits, masks = clip()
    logits.requires_grad_()
    for loss in (found_loss, given_loss):
        (gradient,) = torch.autograd.grad(loss(logits, masks), logits)
        assert gradient[:, :3].abs().sum((0, 2, 3)).gt(0).all()
        assert gradient[:, 3:].eq(0).all()


def test_one_object_is_one_prediction_in_all_frames():
    # Two objects that change places: the predictions stay where they are.
    masks = torch.zeros(3, 2, 4, 4)
    masks[:2, 0, :2], masks[:2, 1, 2:] = 1, 1
    masks[2, 0, 2:], masks[2, 1, :2] = 1, 1
    logits = torch.full((3, 2, 4, 4), -40.0)
    logits[:, 0, 2:], logits[:, 1, :2] = 40, 40
    # They are right in two frames of three, whose pixels they share.
    assert found_loss(logits, masks).item() == pytest.approx(1 - 2 / 4)


def test_a_perfect_clip_has_no_loss():
    _, masks = clip()
    logits = 80 * masks - 40
    assert given_loss(logits, masks).item() == pytest.approx(0)
    assert found_loss(logits.flip(1), masks).item() == pytest.approx(0)
    # But two masks in each other's place are wrong, where the order is known.
    assert given_loss(logits.flip(1), masks).item() > 0.3


def test_the_stop_is_told_after_the_last_object():
    scores = 4 * probabilities(2, 6) - 2
    terms = [
        -math.log(1 / (1 + math.exp(-score if p < 3 else score)))
        for row in scores.tolist()
        for p, score in enumerate(row[:5])
    ]
    assert stop_loss(scores, 3).item() == pytest.approx(sum(terms) / len(terms))
    assert stop_loss(torch.tensor([[50.0, -50.0, -50.0, 50.0]]), 1).item() == pytest.approx(0)
