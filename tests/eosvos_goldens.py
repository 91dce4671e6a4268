"""The seeded weights that the reference numbers of e-OSVOS were made with."""

import json
import zlib

import numpy as np
import torch
from lwl_goldens import GOLDENS

SMALL_HEADS = ("rpn.head.bbox_pred", "rpn.head.cls_logits", "box_predictor", "mask_fcn_logits")


def state_shapes(group):
    """The released names with their shapes: "model(tv0.28 naming)" or "meta_optim"."""
    return json.loads((GOLDENS / "eosvos_keys.json").read_text())[group]


def seeded_state():
    """A state dict with the weights of the reference runs."""
    shapes = state_shapes("model(tv0.28 naming)")
    return {key: torch.from_numpy(_value(key, shape)) for key, shape in shapes.items()}


def _value(key, shape):
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    z = generator.standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        scaled = np.float32(np.sqrt(2 / np.prod(shape[1:]))) * z
        return np.float32(0.1) * scaled if any(part in key for part in SMALL_HEADS) else scaled
    if key.endswith(".weight"):
        small = key.endswith(("bn3.weight", "downsample.1.weight"))
        return np.float32(0.3 if small else 1) * (1 + np.float32(0.1) * z)
    return np.float32(0.05) * z
