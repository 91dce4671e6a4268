"""Reference numbers of LWL and the seeded weights that they were made with."""

import json
import zlib

import numpy as np
import torch
from shared import SHARED

GOLDENS = SHARED / "reference" / "goldens"


def load(name):
    """The arrays of a golden file, as tensors."""
    return {key: torch.from_numpy(value) for key, value in np.load(GOLDENS / name).items()}


def state_shapes(group):
    """The released names with their shapes: "lwl", or the further ones of "boxonly"."""
    return json.loads((GOLDENS / "state_dict_keys.json").read_text())[group]


def seeded_state():
    """A state dict with the weights of the reference runs."""
    shapes = state_shapes("lwl")
    return {
        key: torch.tensor(_value(key, shape, shapes), dtype=_dtype(key))
        for key, shape in shapes.items()
    }


def _dtype(key):
    return torch.int64 if key.endswith("num_batches_tracked") else torch.float32


def _value(key, shape, shapes):
    if key.endswith("num_batches_tracked"):
        return 0
    if key.endswith("filter_reg"):
        return np.full(shape, 0.05, np.float32)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    z = generator.standard_normal(shape).astype(np.float32)
    if key == "label_encoder.samp_w_pred.weight":
        return np.float32(0.05) * z
    if key == "decoder.project.conv2.weight":
        return np.float32(0.02 * np.sqrt(2 / 288)) * z
    if key == "label_encoder.samp_w_pred.bias":
        return 1 + np.float32(0.1) * z
    if len(shape) == 4:
        return np.float32(np.sqrt(2 / np.prod(shape[1:]))) * z
    if key.endswith("running_var"):
        return np.exp(np.float32(0.1) * z)
    if key.endswith("running_mean"):
        return np.float32(0.1) * z
    module, _, last = key.rpartition(".")
    if last == "weight" and f"{module}.running_var" in shapes:
        small = key.startswith("feature_extractor.") and module.endswith(("bn3", "downsample.1"))
        return np.float32(0.3 if small else 1) * (1 + np.float32(0.1) * z)
    return np.float32(0.1) * z
