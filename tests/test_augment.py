"""Training crops and warps against reference numbers, and against each other."""

import pytest
import torch
from lwl_goldens import load
from shared import needs_shared
from torch.nn import functional as F

from innerloop_vos.data.augment import affine_matrix, target_crop, warp_image, warp_mask
from innerloop_vos.io.masks import mask_to_box


@pytest.fixture(scope="module")
def golden():
    return load("data_units.npz")


@needs_shared
def test_box_of_a_mask_golden(golden):
    assert list(mask_to_box(golden["m"])) == golden["bbox"].tolist()


@needs_shared
@pytest.mark.parametrize("border", ["inside_major", "inside", "replicate"])
@pytest.mark.parametrize("case", range(4))
def test_target_crop_golden(golden, case, border):
    crop = target_crop(golden[f"st{case}.bb"].tolist(), (90, 150), (48, 80), 5.0, border)
    expected = {name: golden[f"st{case}.{border}.{name}"] for name in ("box", "crop", "mask")}
    assert list(crop.box) == expected["box"].tolist()
    assert torch.equal(crop.mask(golden["m"]), expected["mask"])
    image = crop.image(golden["im"].permute(2, 0, 1).float())[0].round()
    # OpenCV, which the reference was made with, interpolates in fixed point.
    assert (image - expected["crop"][..., 0]).abs().max() <= 1


@needs_shared
@pytest.mark.parametrize("case", range(2))
def test_affine_golden(golden, case):
    degrees, *scale = golden[f"ra{case}.par"].tolist()
    matrix = affine_matrix(degrees, scale, (48, 80))
    torch.testing.assert_close(matrix, golden[f"ra{case}.mat"], rtol=0, atol=1e-12)
    mask = F.interpolate(golden["m"][None, None], (48, 80))[0, 0]
    assert torch.equal(warp_mask(mask, matrix), golden[f"ra{case}.mask"])


def test_images_and_masks_are_warped_alike():
    mask = torch.zeros(60, 80)
    mask[20:40, 30:55] = 1
    matrix = affine_matrix(12.0, (1.2, 0.9), (60, 80))
    image = warp_image(mask[None], matrix)[0]
    warped = warp_mask(mask, matrix)
    assert (warped.sum() / mask.sum()).item() == pytest.approx(1.2 * 0.9, rel=0.02)
    assert ((image > 0.5) != warped.bool()).sum() <= 10
    assert torch.equal(warp_mask(mask, affine_matrix(0.0, (1.0, 1.0), (60, 80))), mask)


def test_warped_borders_are_repeated_in_images_and_empty_in_masks():
    matrix = affine_matrix(0.0, (0.5, 0.5), (20, 20))
    assert (warp_image(torch.ones(1, 20, 20), matrix) == 1).all()
    assert warp_mask(torch.ones(20, 20), matrix).sum() < 200
