"""Learned updates, like `learn2learn.optim`."""

from innerloop.compat.learn2learn.optim import transforms
from innerloop.compat.learn2learn.optim.learnable_optimizer import LearnableOptimizer
from innerloop.compat.learn2learn.optim.parameter_update import ParameterUpdate
from innerloop.compat.learn2learn.optim.transforms import (
    KroneckerTransform,
    MetaCurvatureTransform,
    ModuleTransform,
    ReshapedTransform,
    TransformDictionary,
)
from innerloop.compat.learn2learn.optim.update_rules import DifferentiableSGD

__all__ = [
    "DifferentiableSGD",
    "KroneckerTransform",
    "LearnableOptimizer",
    "MetaCurvatureTransform",
    "ModuleTransform",
    "ParameterUpdate",
    "ReshapedTransform",
    "TransformDictionary",
    "transforms",
]
