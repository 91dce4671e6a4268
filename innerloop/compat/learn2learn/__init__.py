"""The public calls of `learn2learn` 0.2.0 for adapting modules.

Import it as `import innerloop.compat.learn2learn as l2l`.
"""

from innerloop.compat.learn2learn import algorithms, optim, utils
from innerloop.compat.learn2learn.utils import (
    clone_module,
    clone_parameters,
    detach_module,
    magic_box,
    update_module,
)

__all__ = [
    "algorithms",
    "clone_module",
    "clone_parameters",
    "detach_module",
    "magic_box",
    "optim",
    "update_module",
    "utils",
]
