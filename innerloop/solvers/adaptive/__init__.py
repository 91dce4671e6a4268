"""Methods that scale every entry of the gradient by its history, like those of torch.optim."""

from innerloop.solvers.adaptive.adadelta import Adadelta
from innerloop.solvers.adaptive.adagrad import Adagrad
from innerloop.solvers.adaptive.adam import Adam, AdamW
from innerloop.solvers.adaptive.adamax import Adamax
from innerloop.solvers.adaptive.lion import Lion
from innerloop.solvers.adaptive.radam import RAdam
from innerloop.solvers.adaptive.rmsprop import RMSprop

__all__ = ["Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "RAdam", "RMSprop"]
