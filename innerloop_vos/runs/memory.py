"""The most memory that this process has taken up to now."""

import re
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def peak_memory(device: torch.device) -> int | None:
    """Return the peak of the memory that work on a device has taken.

    Args:
        device: where the work is done.

    Returns:
        Bytes: of a GPU, all tensors of this process; of the CPU, its resident memory. None where
        the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = _STATUS.read_text()
    except OSError:
        return None
    # Not that of the module `resource`, which includes the peak of the parent process.
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
