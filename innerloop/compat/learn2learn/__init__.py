"""The public calls of `learn2learn` 0.2.0 for adapting modules.

Import it as `import innerloop.compat.learn2learn as l2l`.
"""

from innerloop.compat.learn2learn import algorithms, nn, optim, utils
from innerloop.compat.learn2learn.utils import (
    clone_distribution,
    clone_module,
    clone_named_parameters,
    clone_parameters,
    detach_distribution,
    detach_module,
    magic_box,
    update_module,
)

__all__ = [
    "algorithms",
    "clone_distribution",
    "clone_module",
    "clone_named_parameters",
    "clone_parameters",
    "detach_distribution",
    "detach_module",
    "magic_box",
    "nn",
    "optim",
    "update_module",
    "utils",
]
