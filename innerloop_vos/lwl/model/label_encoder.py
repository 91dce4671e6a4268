"""What the target model is told to predict: few-shot labels, learned from masks or boxes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions without bias and a 3x3 convolution as shortcut.

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.downsample = nn.Conv2d(inputs, outputs, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.downsample(x))


class LabelEncoder(nn.Module):
    """Turns a mask into the labels and the weights of the target model's least squares.

    Args:
        widths: channels after the first convolution, the first and the second residual block.
        outputs: D, channels of labels and weights.
        weighted: whether weights are predicted; otherwise all are 1. Default True.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, sections 3.2 and 3.4, appendix B.1: E_θ
        and W_θ, which share all but their last layer.
    """

    def __init__(self, widths: Sequence[int], outputs: int, *, weighted: bool = True) -> None:
        super().__init__()
        first, second, third = widths
        self.conv_block = nn.Sequential(
            nn.Conv2d(1, first, 3, 2, 1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        self.res1 = ResidualBlock(first, second, stride=2)
        self.res2 = ResidualBlock(second, third, stride=2)
        self.label_pred = nn.Sequential(nn.Conv2d(third, outputs, 3, 1, 1), nn.ReLU(inplace=True))
        self.samp_w_pred = nn.Conv2d(third, outputs, 3, 1, 1) if weighted else None
        _initialise(self)
        if self.samp_w_pred is not None:
            # Training starts from least squares that are not weighted.
            nn.init.zeros_(self.samp_w_pred.weight)
            self.samp_w_pred.bias = nn.Parameter(torch.ones(outputs))

    def forward(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Encode masks.

        Args:
            masks: probability of the object, shape (*batch, H, W).

        Returns:
            Labels, not negative, and weights, each of shape (*batch, D, h, w) at stride 16.
        """
        batch = masks.shape[:-2]
        x = self.conv_block(masks.reshape(-1, 1, *masks.shape[-2:]))
        x = self.res2(self.res1(x))
        labels = self.label_pred(x)
        weights = torch.ones_like(labels) if self.samp_w_pred is None else self.samp_w_pred(x)
        shape = (*batch, *labels.shape[1:])
        return labels.reshape(shape), weights.reshape(shape)


class BoxEncoder(nn.Module):
    """Turns the box of an object into target scores, from which the decoder finds the mask.

    Args:
        features: C, channels of the target features.
        outputs: D, channels of the scores.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.7 and appendix B.3: B_θ.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            ResidualBlock(features + 1, 64, stride=1), ResidualBlock(64, 64, stride=1)
        )
        self.label_pred = nn.Sequential(nn.Conv2d(64, outputs, 3, 1, 1), nn.ReLU(inplace=True))
        _initialise(self)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Encode boxes.

        Args:
            features: of the frames that the boxes lie in, shape (B, C, h, w).
            boxes: 1 inside the box and 0 outside, shape (B, H, W).

        Returns:
            Target scores, shape (B, D, h, w).
        """
        size = features.shape[-2:]
        inside = F.interpolate(boxes[:, None], size, mode="bilinear", align_corners=False)
        scores: Tensor = self.label_pred(self.res(torch.cat([features, inside], dim=1)))
        return scores


def _initialise(network: nn.Module) -> None:
    for conv in network.modules():
        if isinstance(conv, nn.Conv2d):
            fan_out = conv.out_channels * math.prod(conv.kernel_size)
            nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
