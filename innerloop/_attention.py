"""Attention that can be differentiated twice, as gradients through inner gradients need."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from torch.backends import cuda

_SWITCHES = (
    (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
    (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
    (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
)
"""For each fused kernel, what tells whether it may be used and what sets it, on CPUs too."""

_lock = Lock()
_inside = 0
_before: list[bool] = []


@contextmanager
def attention_with_second_derivatives() -> Iterator[None]:
    """Keep `scaled_dot_product_attention` from the fused kernels, which lack second derivatives.

    torch's `sdpa_kernel` is safe for one thread only: its switches belong to the process, so one of
    two threads may leave off for good what the other is about to switch on again.
    """
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = [enabled() for enabled, _ in _SWITCHES]  # type: ignore[no-untyped-call]
            for _, enable in _SWITCHES:
                enable(False)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for (_, enable), before in zip(_SWITCHES, _before, strict=True):
                    enable(before)
