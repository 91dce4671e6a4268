"""RVOS's losses: the soft intersection over union, the matching, and the stop."""

import itertools
import math

import pytest
import torch

from innerloop_vos.rvos.training.losses import (
    in_order,
    mask_losses,
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


def test_the_loss_of_masks_is_that_of_every_object():
    logits, masks = clip()
    logits = logits[:, :3].requires_grad_()
    loss, entropy = mask_losses(logits, masks)
    chances = logits.sigmoid()
    agreement = []
    for o in range(3):
        both = (chances[:, o] * masks[:, o]).sum()
        agreement.append(both / (chances[:, o].sum() + masks[:, o].sum() - both))
    torch.testing.assert_close(loss, 1 - sum(agreement) / 3)
    right = torch.where(masks == 1, chances, 1 - chances)
    torch.testing.assert_close(entropy, -right.log().mean())
    assert torch.autograd.gradcheck(lambda x: mask_losses(x, masks), logits)


def test_found_objects_are_compared_in_the_best_order():
    logits, masks = clip()
    first = logits[:, :3]
    orders = [list(order) for order in itertools.permutations(range(3))]
    best = min(orders, key=lambda order: mask_losses(first[:, order], masks)[0].item())
    assert torch.equal(in_order(logits, masks), first[:, best])
    assert best != sorted(best)
    # Whatever the order of the objects, each has its prediction.
    order = [2, 0, 1]
    assert torch.equal(in_order(logits, masks[:, order]), first[:, best][:, order])


def test_one_object_is_one_prediction_in_all_frames():
    # Two objects that change places in the last of three frames.
    masks = torch.zeros(3, 2, 4, 4)
    masks[:2, 0, :2], masks[:2, 1, 2:] = 1, 1
    masks[2, 0, 2:], masks[2, 1, :2] = 1, 1
    # The predictions stay where they are, each in the other's place at first.
    logits = torch.full((3, 2, 4, 4), -40.0)
    logits[:, 0, 2:], logits[:, 1, :2] = 40, 40
    ordered = in_order(logits, masks)
    assert torch.equal(ordered, logits.flip(1))
    # They are right in two frames of three.
    assert mask_losses(ordered, masks)[0].item() == pytest.approx(1 - 2 / 4)


def test_a_perfect_clip_has_no_loss():
    _, masks = clip()
    logits = 80 * masks - 40
    for found in (logits, in_order(logits.flip(1), masks)):
        assert [loss.item() for loss in mask_losses(found, masks)] == pytest.approx([0, 0])
    assert mask_losses(logits.flip(1), masks)[0].item() > 0.3


def test_the_stop_is_told_after_the_last_object():
    scores = 4 * probabilities(2, 6) - 2
    terms = [
        -math.log(1 / (1 + math.exp(-score if p < 3 else score)))
        for row in scores.tolist()
        for p, score in enumerate(row[:5])
    ]
    assert stop_loss(scores, 3).item() == pytest.approx(sum(terms) / len(terms))
    assert stop_loss(torch.tensor([[50.0, -50.0, -50.0, 50.0]]), 1).item() == pytest.approx(0)
