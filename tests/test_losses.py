"""The Lovász losses against reference numbers and against the Jaccard index itself."""

import pytest
import torch
from lwl_goldens import load
from shared import needs_shared

from innerloop_vos.scoring import region_similarity
from innerloop_vos.training.losses import lovasz_hinge, lovasz_sigmoid


def per_image(logits, masks):
    losses = [lovasz_sigmoid(x, y) for x, y in zip(logits, masks, strict=True)]
    return torch.stack(losses).mean()


@needs_shared
@pytest.mark.parametrize("case", ["p", "q"])
@pytest.mark.parametrize(("loss", "suffix"), [(lovasz_sigmoid, ""), (per_image, "_pi")])
def test_lovasz_sigmoid_golden(case, loss, suffix):
    golden = load("lovasz_softmax.npz")
    logits = golden[f"{case}.logit"].requires_grad_()
    value = loss(logits, golden[f"{case}.t"])
    (gradient,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(value, golden[f"{case}.loss{suffix}"], rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, golden[f"{case}.grad{suffix}"], rtol=0, atol=1e-6)


@needs_shared
def test_lovasz_hinge_golden():
    golden = load("lovasz_hinge.npz")
    for logits, masks, name in [
        (golden["s.x"], golden["s.y"], "s"),
        (golden["ml.logits"][:, 1], golden["ml.targets"], "ml.lov"),
    ]:
        logits.requires_grad_()
        value = lovasz_hinge(logits, masks)
        (gradient,) = torch.autograd.grad(value, logits)
        torch.testing.assert_close(value, golden[f"{name}.loss"], rtol=0, atol=1e-6)
        torch.testing.assert_close(gradient, golden[f"{name}.grad"], rtol=0, atol=1e-6)


def test_on_certain_predictions_the_loss_is_the_jaccard_loss():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(9, 11, generator=generator) > 0.5
    found = torch.rand(9, 11, generator=generator) > 0.4
    loss = lovasz_sigmoid(200.0 * found - 100, masks)
    assert loss.item() == pytest.approx(1 - region_similarity(found, masks))


def test_void_pixels_do_not_count():
    logits, masks = torch.randn(2, 4, 5), torch.ones(2, 4, 5).tril()
    void = masks.clone()
    void[:, :, 4] = 255
    torch.testing.assert_close(
        lovasz_hinge(logits, void), lovasz_hinge(logits[:, :, :4], masks[:, :, :4])
    )


def test_an_empty_mask_gives_a_finite_loss():
    logits = torch.randn(3, 4, requires_grad=True)
    lovasz_sigmoid(logits, torch.zeros(3, 4)).backward()
    assert logits.grad.isfinite().all()
