"""Names of parameters in checkpoints of other versions of torchvision."""

import re
from collections.abc import Mapping

from torch import Tensor

_RENAMED = (
    (r"(fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2"),
)
_MASK_LAYER = re.compile(r"(mask_head)\.mask_fcn(\d+)\.")


def current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a Mask R-CNN of any torchvision to their current names.

    torchvision's own weights and the released checkpoints have the names used before 0.13.

    Args:
        state: tensors by name.

    Returns:
        The same tensors; current names stay as they are.
    """
    return {_current(name): value for name, value in state.items()}


def _current(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    # Earlier names were counted from 1.
    return _MASK_LAYER.sub(lambda found: f"{found[1]}.{int(found[2]) - 1}.0.", name)
