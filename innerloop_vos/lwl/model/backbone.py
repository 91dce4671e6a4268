"""Backbones of LWL: the released ResNet-50, in the style of Caffe, and a small one."""

import torch
from torch import Tensor

from innerloop_vos.backbones.efficientnet_lite0 import EfficientNetLite0
from innerloop_vos.backbones.pretrained import ResNet50

_BGR_MEAN = (102.9801, 115.9465, 122.7717)


class CaffeResNet50(ResNet50):
    """ResNet-50 with the stride in the first 1x1 convolution, on BGR images in 0..255.

    torchvision's has the stride in the 3x3 convolution and takes normalised RGB; the names of the
    weights are the same.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    def __init__(self) -> None:
        super().__init__()
        for layer in (self.layer2, self.layer3, self.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
        self.mean = torch.tensor(_BGR_MEAN).view(3, 1, 1)
        self.std = torch.ones(3, 1, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of images, RGB in 0..1, shape `(N, 3, H, W)`."""
        return super().forward(255 * images.flip(-3))


class LiteLevels(EfficientNetLite0):
    """EfficientNet-Lite0 with its levels under the names of a ResNet-50's."""

    def __init__(self) -> None:
        super().__init__()
        names = {name: f"layer{at}" for at, name in enumerate(self.levels, start=1)}
        self.levels = {names[name]: level for name, level in self.levels.items()}
        self.target_levels = tuple(names[name] for name in self.target_levels)
