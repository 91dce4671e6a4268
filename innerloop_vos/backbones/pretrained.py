"""torchvision's classification networks as backbones."""

from typing import Any, ClassVar

from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet50

from innerloop_vos.backbones.base import Backbone, Level


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 without its classifier, at output stride 16.

    The stride of `features.14` is removed and `features.14` to `.17` are dilated by 2, as
    in networks trained for semantic segmentation; masks need the resolution.

    Source:
        Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
    """

    unused: ClassVar[tuple[str, ...]] = ("features.18.", "classifier.")

    def __init__(self) -> None:
        levels = {
            "features.3": Level(24, 4),
            "features.6": Level(32, 8),
            "features.13": Level(96, 16),
            "features.17": Level(320, 16),
        }
        super().__init__(levels, ("features.6", "features.13", "features.17"))
        self.features = mobilenet_v2(weights=None).features[:18]
        for block in self.features[14:]:
            for conv in block.modules():
                if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
                    conv.stride, conv.dilation, conv.padding = (1, 1), (2, 2), (2, 2)

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of normalised images, by level."""
        found = {}
        x = images
        for index, block in enumerate(self.features):
            x = block(x)
            if (name := f"features.{index}") in self.levels:
                found[name] = x
        return found


class ResNet50(Backbone):
    """torchvision's ResNet-50 without its classifier.

    Source:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    unused: ClassVar[tuple[str, ...]] = ("fc.",)

    def __init__(self) -> None:
        levels = {
            "layer1": Level(256, 4),
            "layer2": Level(512, 8),
            "layer3": Level(1024, 16),
            "layer4": Level(2048, 32),
        }
        super().__init__(levels, ("layer2", "layer3"))
        net: Any = resnet50(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of normalised images, by level."""
        found = {}
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for name in self.levels:
            x = found[name] = getattr(self, name)(x)
        return found
