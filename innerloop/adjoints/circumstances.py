"""The circumstances under which code runs: what to restore to run it again in the same way."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

_SDP = torch.backends.cuda
_SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (_SDP.flash_sdp_enabled, _SDP.enable_flash_sdp),
    (_SDP.mem_efficient_sdp_enabled, _SDP.enable_mem_efficient_sdp),
    (_SDP.math_sdp_enabled, _SDP.enable_math_sdp),
    (_SDP.cudnn_sdp_enabled, _SDP.enable_cudnn_sdp),
)
"""Settings of torch, each with the functions that read and set it."""

_CUDNN = ("enabled", "benchmark", "deterministic")


class Circumstances:
    """The present circumstances: random numbers, autocast, torch's settings and context variables.

    They do not include the user's own generators and iterators, attributes of modules, or anything
    else outside torch, numpy and Python's `random`.
    """

    def __init__(self) -> None:
        self._random = _RandomState()
        self._context = copy_context()
        self._device = torch.get_default_device()
        self._switches = [read() for read, _ in _SWITCHES]
        self._cudnn = {name: getattr(torch.backends.cudnn, name) for name in _CUDNN}
        self._autocast = [
            (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
            for device in _devices()
        ]

    def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call the function under these circumstances, and then restore the present ones."""
        with ExitStack() as stack:
            stack.callback(_RandomState().restore)
            stack.enter_context(_switched(self._switches))
            stack.enter_context(torch.backends.cudnn.flags(**self._cudnn, allow_tf32=None))
            for device, enabled, dtype in self._autocast:
                stack.enter_context(torch.autocast(device, dtype, enabled, cache_enabled=False))
            if self._device != torch.get_default_device():
                stack.enter_context(self._device)
            self._random.restore()
            return self._context.copy().run(function, *args)


@contextmanager
def without_autocast_cache() -> Iterator[None]:
    """Clear autocast's cache of converted parameters: those made without gradients have none."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


class _RandomState:
    """The state of the global generators of torch, numpy and Python."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy = sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None
        self._cpu = torch.get_rng_state()
        self._cuda = (
            torch.cuda.get_rng_state_all()
            if torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
            else []
        )

    def restore(self) -> None:
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


@contextmanager
def _switched(values: list[Any]) -> Iterator[None]:
    before = [read() for read, _ in _SWITCHES]
    for (_, write), now, value in zip(_SWITCHES, before, values, strict=True):
        if value != now:
            write(value)
    try:
        yield
    finally:
        for (_, write), now, value in zip(_SWITCHES, before, values, strict=True):
            if value != now:
                write(now)


def _devices() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]
