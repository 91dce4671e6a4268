"""Learned updates, as of `learn2learn.optim`."""

from innerloop.compat.learn2learn.optim import transforms
from innerloop.compat.learn2learn.optim.parameter_update import ParameterUpdate
from innerloop.compat.learn2learn.optim.transforms import ModuleTransform, ReshapedTransform
from innerloop.compat.learn2learn.optim.update_rules import DifferentiableSGD

__all__ = [
    "DifferentiableSGD",
    "ModuleTransform",
    "ParameterUpdate",
    "ReshapedTransform",
    "transforms",
]
