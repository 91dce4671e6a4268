"""What stands in for the target model where there is no mask yet, but a box."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BoxEncoder(nn.Module):
    """Turns the box of an object into target scores, from which the decoder finds the mask.

    Args:
        features: C, channels of the target features.
        outputs: D, number of scores.
        width: channels of the layers between.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.7 and appendix B.3.
    """

    def __init__(self, features: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features + 1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.conv3 = nn.Conv2d(width, width, 3, padding=4, dilation=4)
        # What the box holds as a whole: the object's look is compared with that of the rest.
        self.inside = nn.Linear(features, width)
        self.outside = nn.Linear(features, width)
        self.head = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Encode boxes.

        Args:
            features: of the frames that the boxes lie in, shape (B, C, h, w).
            boxes: 1 inside the box and 0 outside, shape (B, H, W).

        Returns:
            Target scores, shape (B, D, h, w).
        """
        box = F.interpolate(boxes[:, None], features.shape[-2:], mode="area")
        inside, outside = (
            (features * where).sum((2, 3)) / where.sum((2, 3)).clamp(min=1)
            for where in (box, 1 - box)
        )
        look = self.inside(inside) + self.outside(outside)
        x = F.relu(self.conv1(torch.cat([features, box], dim=1)) + look[..., None, None])
        x = x + F.relu(self.conv2(x))
        x = x + F.relu(self.conv3(x))
        scores: Tensor = self.head(x)
        return torch.cat([scores[:, :1] + box, scores[:, 1:]], dim=1)
