"""The parts of e-OSVOS's heads that are faster than torchvision's, against those."""

import pytest
import torch
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from innerloop_vos.eosvos.pooling import BoxPool
from innerloop_vos.eosvos.roi_heads import MaskPredictor

IMAGE = (96, 128)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
@pytest.mark.parametrize("count", [0, 12])
def test_boxes_are_pooled_as_by_torchvision(count, dtype, bound):
    torch.manual_seed(0)
    as_given = {"dtype": dtype, "requires_grad": True}
    levels = {str(i): torch.randn(2, 5, 24 >> i, 32 >> i, **as_given) for i in range(2)}
    corners = torch.rand(2, count, 2, dtype=dtype) * 60
    boxes = list(torch.cat([corners, corners + torch.rand(2, count, 2, dtype=dtype) * 80], 2))
    if count:
        boxes[0][0] = torch.tensor([0.0, 0, 128, 96])
        boxes[1][0] = torch.tensor([127.0, 95, 128, 96])
    expected = MultiScaleRoIAlign(["0", "1"], 7, 2)(levels, boxes, [IMAGE] * 2)
    found = BoxPool(["0", "1"], 7)(levels, boxes, [IMAGE] * 2)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad(x, list(levels.values()), weights) for x in (found, expected)]
    torch.testing.assert_close(*gradients, atol=bound, rtol=bound)


@pytest.mark.parametrize("count", [0, 3])
def test_masks_are_predicted_as_by_torchvision(count):
    torch.manual_seed(0)
    slow, fast = MaskRCNNPredictor(6, 5, 2), MaskPredictor(6, 5, 2)
    fast.load_state_dict(slow.state_dict())
    features = torch.randn(count, 6, 4, 7)
    torch.testing.assert_close(fast(features), slow(features))
