"""The public calls of `learn2learn` 0.2.0 for adapting modules.

Import it as `import innerloop.compat.learn2learn as l2l`.
"""

from innerloop.compat.learn2learn import algorithms, optim, utils
from innerloop.compat.learn2learn.utils import clone_module, detach_module, update_module

__all__ = ["algorithms", "clone_module", "detach_module", "optim", "update_module", "utils"]
