"""How the compatible layers copy modules: as the core does."""

from innerloop.modules.copies import Module, Slots, clone, copy_module, detached_copy, fresh

__all__ = ["Module", "Slots", "clone", "copy_module", "detached_copy", "fresh"]
