"""LWL networks that tests can train in seconds."""

import torch
from torch import nn

from innerloop_vos.backbones import Backbone, Level
from innerloop_vos.lwl import LWL

TINY_SIZES = {
    "features": 16,
    "outputs": 4,
    "label_widths": (4, 8, 8),
    "decoder_widths": (16, 16, 16, 16),
}


class TinyBackbone(Backbone):
    """The levels of a ResNet-50 and the names of its parts, with a layer or two for each."""

    unused = ("fc.",)

    def __init__(self):
        levels = {f"layer{i}": Level(4 * 2**i, 2 ** (i + 1)) for i in (1, 2, 3, 4)}
        super().__init__(levels, ("layer2", "layer3"))
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU())
            for width in (4, 8, 16, 32)
        )

    def extract(self, images):
        found, x = {}, self.bn1(self.conv1(images)).relu()
        for name in self.levels:
            x = found[name] = getattr(self, name)(x)
        return found


def tiny_lwl(seed=1, **sizes):
    """A network with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return LWL(TinyBackbone(), **(TINY_SIZES | sizes)).eval()
