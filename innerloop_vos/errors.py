"""The exception for bad input, which the command line turns into exit code 2."""

from innerloop.errors import InputError

__all__ = ["InputError"]
