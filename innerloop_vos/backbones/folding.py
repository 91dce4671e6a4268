"""Batch normalisation folded into the convolutions before it."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(network: nn.Module) -> None:
    """Fold, in place, every normalisation that follows a convolution in an `nn.Sequential`.

    The network computes the same in evaluation mode, to rounding, and can no longer be trained
    as before.

    Args:
        network: network to fold; put into evaluation mode.
    """
    network.eval()
    # A list, as the iteration must not follow the changes.
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for index, (conv, norm) in enumerate(pairwise(list(sequence))):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[index] = fuse_conv_bn_eval(conv, norm)
                sequence[index + 1] = nn.Identity()
