"""Wrappers that adapt a clone of a module, like `learn2learn.algorithms`."""

from innerloop.compat.learn2learn.algorithms.base_learner import BaseLearner
from innerloop.compat.learn2learn.algorithms.gbml import GBML
from innerloop.compat.learn2learn.algorithms.maml import MAML, maml_update
from innerloop.compat.learn2learn.algorithms.meta_sgd import MetaSGD, meta_sgd_update

__all__ = ["GBML", "MAML", "BaseLearner", "MetaSGD", "maml_update", "meta_sgd_update"]
