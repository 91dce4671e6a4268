"""Co-attention: what frames of a video have in common."""

import torch
from torch import Tensor, nn

_OPEN = 1.0
"""Start of the bias of the gate."""


class VanillaAffinity(nn.Module):
    """S = V_bᵀ W V_a with any W.

    Args:
        channels: C.

    Source:
        Slide "COSNet: Co-Attention Module", vanilla co-attention.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(channels) / channels**0.5)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare features (B, C, A) and (B, C, A'): similarities, shape (B, A', A)."""
        return b.transpose(1, 2) @ (self.weight @ a)


class SymmetricAffinity(nn.Module):
    """S = (P V_b)ᵀ D (P V_a) with a projection P, orthogonal at first, and a diagonal D.

    Every symmetric W is such a Pᵀ D P, and remains one whatever P becomes.

    Args:
        channels: C.

    Source:
        Slide "COSNet: Co-Attention Module", symmetric co-attention.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))
        self.diagonal = nn.Parameter(torch.full((channels,), channels**-0.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """As `VanillaAffinity.forward`."""
        weighted = self.diagonal[:, None] * (self.projection @ a)
        return (self.projection @ b).transpose(1, 2) @ weighted


class ChannelAffinity(nn.Module):
    """S = V_bᵀ D V_a with a diagonal D.

    Args:
        channels: C.

    Source:
        Slide "COSNet: Co-Attention Module", channel-wise co-attention, where D = D_a D_b.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.diagonal = nn.Parameter(torch.full((channels,), channels**-0.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """As `VanillaAffinity.forward`."""
        return b.transpose(1, 2) @ (self.diagonal[:, None] * a)


AFFINITIES: dict[str, type[nn.Module]] = {
    "vanilla": VanillaAffinity,
    "symmetric": SymmetricAffinity,
    "channel": ChannelAffinity,
}
"""The forms of co-attention, by the constraint on W."""


class CoAttention(nn.Module):
    """Summarises what other frames show of the things in a frame, and lets a gate weigh it.

    Args:
        form: a name in `AFFINITIES`.
        channels: C of the features.

    Source:
        Slides "COSNet: Co-Attention Module" and "COSNet: Testing".
    """

    def __init__(self, form: str, channels: int) -> None:
        super().__init__()
        self.affinity = AFFINITIES[form](channels)
        self.gate = nn.Conv1d(channels, 1, 1)
        nn.init.constant_(self.gate.get_parameter("bias"), _OPEN)

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Summarise each of two frames in the light of the other.

        Args:
            a: features V_a of one frame, shape (B, C, h, w).
            b: features V_b of the other, of the same shape.

        Returns:
            The gated summaries of b for a and of a for b, Z_a and Z_b, each (B, C, h, w).
        """
        flat_a, flat_b = a.flatten(2), b.flatten(2)
        affinity = self.affinity(flat_a, flat_b)
        of_a = self._summary(affinity, flat_b)
        of_b = self._summary(affinity.transpose(1, 2), flat_a)
        return of_a.view_as(a), of_b.view_as(b)

    def forward(self, target: Tensor, references: Tensor) -> Tensor:
        """Summarise several frames in the light of one.

        Args:
            target: its features V_a, shape (C, h, w).
            references: those of the others, shape (N, C, h, w), N at least 1.

        Returns:
            The mean of the gated summaries Z_a over the references, shape (C, h, w).
        """
        flat = references.flatten(2)
        affinity = self.affinity(target.flatten(1).expand(len(flat), -1, -1), flat)
        return self._summary(affinity, flat).mean(0).view_as(target)

    def _summary(self, affinity: Tensor, features: Tensor) -> Tensor:
        """Averages of features (B, C, A'), weighted by the columns of S (B, A', A), and gated."""
        summary = features @ affinity.softmax(1)
        gated: Tensor = summary * self.gate(summary).sigmoid()
        return gated
