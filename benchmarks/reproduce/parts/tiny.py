"""An LWL network that takes a training step in a moment."""

import torch
from torch import Tensor, nn

from innerloop_vos.backbones import Backbone, Level
from innerloop_vos.lwl import LWL


class TinyResNet(Backbone):
    """The levels of a ResNet-50 and the names of its parts, with a convolution for each."""

    def __init__(self) -> None:
        widths = (8, 16, 32, 64)
        levels = {f"layer{i}": Level(width, 2 ** (i + 1)) for i, width in enumerate(widths, 1)}
        super().__init__(levels, ("layer3",))
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        before = 4
        for name, width in zip(self.levels, widths, strict=True):
            self.add_module(name, nn.Sequential(nn.Conv2d(before, width, 3, 2, 1), nn.ReLU()))
            before = width

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        found, x = {}, self.bn1(self.conv1(images)).relu()
        for name in self.levels:
            x = found[name] = self.get_submodule(name)(x)
        return found


def tiny_lwl(seed: int, *, box: bool) -> LWL:
    """A network with random weights, the same for the same seed."""
    torch.manual_seed(seed)
    network = LWL(
        TinyResNet(),
        features=16,
        outputs=4,
        label_widths=(4, 8, 8),
        decoder_widths=(16, 16, 16, 16),
        box=box,
    )
    # The default shrinks what passes from layer to layer, until the images hardly matter.
    for layer in (*network.feature_extractor.modules(), *network.decoder.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return network
