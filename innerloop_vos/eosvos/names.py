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
    """Give the tensors of a Mask R-CNN, of any torchvision, the names that they have today.

    torchvision's own weights and the released checkpoints have the names of before 0.13.

    Args:
        state: tensors by name.

    Returns:
        The same tensors; current names stay as they are.
    """
    return {_current(name): value for name, value in state.items()}


def _current(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    # They were counted from 1.
    return _MASK_LAYER.sub(lambda found: f"{found[1]}.{int(found[2]) - 1}.0.", name)
