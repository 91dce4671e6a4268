"""Labels that are not learned: the mask itself."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STRIDE = 16


class MaskLabels(nn.Module):
    """Takes the mask itself as the label of the target model's least squares, with weights of 1.

    It stands in the place of `LabelEncoder` and has no parameters.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 4.1: the networks of Table 1
        without label generator. The paper does not say how masks become as small as the features;
        here each cell has the share of the object in its 16x16 pixels.
    """

    def forward(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Shrink masks.

        Args:
            masks: probability of the object, shape (*batch, H, W).

        Returns:
            Labels and weights, each of shape (*batch, 1, h, w) at stride 16.
        """
        # With "ceil", cells at the border are means over what of them lies in the mask.
        flat = masks.reshape(-1, 1, *masks.shape[-2:])
        labels = F.avg_pool2d(flat, _STRIDE, ceil_mode=True)
        labels = labels.reshape(*masks.shape[:-2], *labels.shape[1:])
        return labels, torch.ones_like(labels)
