"""Work on independent tasks in parallel, one on each CPU core."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_DEVICES = ("cpu", "cuda")


def thread_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Map over items in `torch.get_num_threads()` threads, each of which computes on one core.

    Small operations gain little from being split among cores; whole tasks in parallel keep all
    cores busy.

    Args:
        function: function that several threads call at once, under the caller's autocast.
        items: arguments of the calls.

    Yields:
        The results in the order of the items.
    """
    count = torch.get_num_threads()
    # Autocast is set per thread.
    autocast = [
        (device, torch.get_autocast_dtype(device))
        for device in _DEVICES
        if torch.is_autocast_enabled(device)
    ]
    cached = torch.is_autocast_cache_enabled()

    def call(item: Item) -> Result:
        with ExitStack() as stack:
            for device, dtype in autocast:
                stack.enter_context(torch.autocast(device, dtype, cache_enabled=cached))
            return function(item)

    # Each thread has its own setting; new threads take the one that was set last.
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(call, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(count)
