"""The embedded backbone: a residual network of plain 3x3 convolutions, output stride 16."""

from torch import Tensor, nn

from innerloop_vos.backbones.base import Backbone, Level

_STEM, _STAGE4, _STAGE8, _STAGE16 = 24, 32, 64, 160
"""Channels of the trunk."""


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int, dilation: int, norm: bool
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs)) if norm else nn.Sequential(conv)


class Block(nn.Module):
    """Two 3x3 convolutions with a skip connection, projected where the shape changes.

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: stride of the first convolution.
        dilation: dilation of both convolutions.
        norm: whether batch normalisation follows each convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1, norm: bool
    ) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, 3, stride, dilation, norm)
        self.second = _conv(outputs, outputs, 3, 1, dilation, norm)
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else _conv(inputs, outputs, 1, stride, 1, norm)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, ceil(H / stride), ceil(W / stride))`."""
        y: Tensor = self.second(self.relu(self.first(x)))
        return self.relu(y + self.skip(x))  # type: ignore[no-any-return]


class SmallBackbone(Backbone):
    """The small network that ships with the package.

    Its levels `stage8`, `stage16` and `context16` end in linear projections that were
    distilled from MobileNetV2's `features.6`, `.13` and `.17`; `stage4` is plain.

    Args:
        norm: True for the trainable form with batch normalisation, False for the form with
            the normalisation folded into biased convolutions, which is what ships.
    """

    def __init__(self, *, norm: bool = False) -> None:
        levels = {
            "stage4": Level(32, 4),
            "stage8": Level(32, 8),
            "stage16": Level(96, 16),
            "context16": Level(320, 16),
        }
        super().__init__(levels, ("stage8", "stage16", "context16"))
        self.stage4 = nn.Sequential(
            _conv(3, _STEM, 3, 2, 1, norm),
            nn.ReLU(inplace=True),
            Block(_STEM, _STAGE4, stride=2, norm=norm),
        )
        self.stage8 = nn.Sequential(
            Block(_STAGE4, _STAGE8, stride=2, norm=norm),
            Block(_STAGE8, _STAGE8, norm=norm),
        )
        self.stage16 = nn.Sequential(
            Block(_STAGE8, _STAGE16, stride=2, norm=norm),
            Block(_STAGE16, _STAGE16, norm=norm),
            Block(_STAGE16, _STAGE16, dilation=2, norm=norm),
        )
        # Dilation instead of a further stride: context without losing resolution.
        self.context16 = nn.Sequential(
            Block(_STAGE16, _STAGE16, norm=norm),
            Block(_STAGE16, _STAGE16, dilation=2, norm=norm),
            Block(_STAGE16, _STAGE16, dilation=4, norm=norm),
        )
        self.head8 = nn.Conv2d(_STAGE8, levels["stage8"].channels, 1)
        self.head16 = nn.Conv2d(_STAGE16, levels["stage16"].channels, 1)
        self.head_context16 = nn.Conv2d(_STAGE16, levels["context16"].channels, 1)

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of normalised images, by level."""
        stage4 = self.stage4(images)
        stage8 = self.stage8(stage4)
        stage16 = self.stage16(stage8)
        context16 = self.context16(stage16)
        return {
            "stage4": stage4,
            "stage8": self.head8(stage8),
            "stage16": self.head16(stage16),
            "context16": self.head_context16(context16),
        }
