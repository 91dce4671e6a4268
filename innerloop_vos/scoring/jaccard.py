"""Region similarity J."""

import numpy as np
import torch

from innerloop_vos.scoring.mask_pair import binary_pair


def region_similarity(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    """Intersection over union of two masks (J).

    Args:
        prediction: (H, W) mask, boolean or integer; nonzero is the object.
        truth: (H, W) mask, boolean or integer; nonzero is the object.

    Returns:
        J in [0, 1]; 1 where both masks are empty.

    Raises:
        InputError: a mask is not an (H, W) tensor of booleans or integers, or the sizes differ.

    Source:
        Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object
        Segmentation, CVPR 2016, section 4.1.
    """
    predicted, true = binary_pair(prediction, truth)
    union = np.count_nonzero(predicted | true)
    if union == 0:
        return 1.0
    return float(np.count_nonzero(predicted & true) / union)
