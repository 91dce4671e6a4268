"""The seeded weights and names that the reference numbers of e-OSVOS were made with."""

import json
import re
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


def former_name(name):
    """The name of a parameter in torchvision's own weight file, which is older than the code."""
    name = re.sub(r"((?:inner|layer)_blocks\.\d)\.0\.", r"\1.", name)
    name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    return re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name)


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
