"""EfficientNet-Lite0 as a backbone."""

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones.base import Backbone, Level

_STEM = 32
_STAGES = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
BLOCKS = [f"stages.{i}.{j}" for i, stage in enumerate(_STAGES) for j in range(stage[-1])]
"""The names of all blocks, in their order."""

COLOURS = (127 / 255,) * 3, (128 / 255,) * 3
"""Mean and standard deviation of the colours that it expects."""

_LEVELS = (1, 2, 4, 6)
"""The stages whose outputs are levels."""


class SameConv2d(nn.Conv2d):
    """A convolution padded like "SAME" of TensorFlow: odd padding is larger below and right.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel, odd.
        stride: 1 or 2.
        dilation: dilation.
        groups: groups of channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        if kernel == 1:
            # Changes nothing, but on one thread torch leaves only dilated 1x1 kernels to oneDNN,
            # which is a fifth faster.
            dilation = 2
        padding = dilation * (kernel - 1) // 2
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, ceil(H / stride), ceil(W / stride))`."""
        if self.stride[0] == 1:
            return self.convolve(x, (int(self.padding[0]), int(self.padding[1])))
        # "SAME" pads the start of an even side by one pixel less. Padding it by one more and
        # dropping the first output comes to the same, without a padded copy.
        top, left = (1 - side % 2 for side in x.shape[-2:])
        padding = (int(self.padding[0]) + top, int(self.padding[1]) + left)
        return self.convolve(x, padding)[..., top:, left:]

    def convolve(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        """Convolve with another padding."""
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class InvertedBlock(nn.Module):
    """A depthwise convolution between an expansion and a linear projection of the channels.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the depthwise kernel.
        stride: stride of the depthwise convolution.
        dilation: dilation of the depthwise convolution.
        expansion: channels of the depthwise convolution per input channel.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int, expansion: int
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = nn.Identity() if expansion == 1 else _active(SameConv2d(inputs, inner, 1))
        self.depthwise = _active(SameConv2d(inner, inner, kernel, stride, dilation, groups=inner))
        self.project = nn.Sequential(SameConv2d(inner, outputs, 1), _norm(outputs))
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, ceil(H / stride), ceil(W / stride))`."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return y.add_(x) if self.residual else y


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier.

    At output stride 16 the last stride is removed and what follows it is dilated by 2: every second
    pixel of `context16` is what the released network computes at stride 32.

    Args:
        stride: of the last level, `context16` or `context32`; 32 is the released network's.
            Default 16.

    Source:
        Tan and Le, EfficientNet, ICML 2019; "Lite" leaves out squeeze-and-excitation, and has
        ReLU6 for swish.
    """

    def __init__(self, stride: Literal[16, 32] = 16) -> None:
        levels = {
            "stage4": Level(24, 4),
            "stage8": Level(40, 8),
            "stage16": Level(112, 16),
            f"context{stride}": Level(320, stride),
        }
        targets = ("stage8", "stage16", f"context{stride}")
        super().__init__(levels, targets, *COLOURS)
        self.stem = _active(SameConv2d(3, _STEM, 3, 2))
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in _stages(stride))

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of normalised images, by level."""
        outputs = []
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return {name: outputs[at] for name, at in zip(self.levels, _LEVELS, strict=True)}


def _stages(output_stride: int) -> Iterator[list[InvertedBlock]]:
    inputs, reached, dilation = _STEM, 2, 1
    for kernel, stride, expansion, outputs, count in _STAGES:
        # The block that loses its stride still sees its input at the dilation before.
        before = dilation
        if reached * stride > output_stride:
            stride, dilation = 1, dilation * stride
        reached *= stride
        blocks = [InvertedBlock(inputs, outputs, kernel, stride, before, expansion)]
        blocks += [
            InvertedBlock(outputs, outputs, kernel, 1, dilation, expansion)
            for _ in range(count - 1)
        ]
        inputs = outputs
        yield blocks


def _active(conv: SameConv2d) -> nn.Sequential:
    return nn.Sequential(conv, _norm(conv.out_channels), nn.ReLU6(inplace=True))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
