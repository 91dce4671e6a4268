"""Weights of networks: one reader of any file, one writer of our own."""

from innerloop_vos.weight_files.checkpoints import read_checkpoint
from innerloop_vos.weight_files.fitting import fit, fit_known, fit_same
from innerloop_vos.weight_files.network import (
    Kind,
    Recipe,
    builder_in,
    halved,
    load_network,
    read_network,
    write_network,
)
from innerloop_vos.weight_files.reading import SUFFIX, read_weights, tensors_in

__all__ = [
    "SUFFIX",
    "Kind",
    "Recipe",
    "builder_in",
    "fit",
    "fit_known",
    "fit_same",
    "halved",
    "load_network",
    "read_checkpoint",
    "read_network",
    "read_weights",
    "tensors_in",
    "write_network",
]
