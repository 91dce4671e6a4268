"""Ctrl-C and SIGTERM: both stop a command in order, a second one at once.

It imports nothing large, as it is imported before everything that does.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)

_SAME = 1.0
"""Seconds within which a further signal counts as the first one repeated: torchrun passes on
signals that the terminal has sent to all processes already."""

_received: list[int] = []


def received() -> bool:
    """Return whether a signal came in the latest block of `raised` or `remembered`."""
    return bool(_received)


def exit_code() -> int:
    """Return the exit code of a command that was stopped: 128 plus the number of the signal."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def leave(number: int, frame: FrameType | None) -> None:
    """End the process at once; a handler for when there is nothing to save or to remove."""
    os._exit(128 + number)


@contextmanager
def handled(
    handler: Callable[[int, FrameType | None], None], for_good: bool = False
) -> Iterator[None]:
    """Handle both signals while the block runs; in other threads than the main one, do nothing.

    Args:
        handler: function that the signals call in the block.
        for_good: after the block the signals end the process at once, instead of what they did
            before it. Default False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, previous in before.items():
            # None: it was not set from Python.
            after = signal.SIG_DFL if previous is None else previous
            signal.signal(number, leave if for_good else after)


@contextmanager
def raised() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first signal in the block, so that `with` blocks clean up."""

    def handler(number: int, frame: FrameType | None) -> None:
        if _first(number):
            raise KeyboardInterrupt

    _received.clear()
    with handled(handler):
        yield


@contextmanager
def remembered() -> Iterator[Callable[[], bool]]:
    """Only remember the first signal in the block, which checks for it where it can stop.

    Yields:
        A function that returns whether there was one.
    """
    _received.clear()

    def handler(number: int, frame: FrameType | None) -> None:
        _first(number)

    with handled(handler):
        yield received


_since = 0.0


def _first(number: int) -> bool:
    global _since
    if not _received:
        _since = time.monotonic()
        _received.append(number)
        return True
    if time.monotonic() - _since > _SAME:
        leave(number, None)
    return False
