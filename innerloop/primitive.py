"""Autograd Functions that work in eager code, under torch.func and under torch.compile."""

import inspect

from torch.autograd import Function


class Primitive(Function):
    """An autograd Function with `forward` and `setup_context` apart, which torch.func maps itself.

    At every call torch asks Python for the signature of `forward`, which takes longer than many a
    small operation; a signature that is known is handed out at once.
    """

    generate_vmap_rule = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.forward.__signature__ = inspect.signature(cls.forward)  # type: ignore[attr-defined]
