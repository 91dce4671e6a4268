"""A residual block without normalisation."""

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two convolutions beside the identity, which they start as.

    Args:
        width: channels of input and output.
        dilation: of the first convolution. Default 1.
        inner: channels between the two. Default: `width`.
    """

    def __init__(self, width: int, dilation: int = 1, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or width
        self.conv1 = nn.Conv2d(width, inner, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))  # type: ignore[no-any-return]
