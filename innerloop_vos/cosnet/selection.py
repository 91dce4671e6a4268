"""Which frames of a video help with a frame."""

from collections.abc import Callable

import torch

Selection = Callable[[int, int, int, int], list[int]]


def uniform(count: int, references: int, time: int, seed: int) -> list[int]:
    """Select frames that are spread over the video.

    Args:
        count: frames of the video.
        references: N, how many to select.
        time: index of the frame that they help with.
        seed: of draws.

    Returns:
        Indices in order: N of them, or all frames where there are not more.

    Source:
        Slide "COSNet: Ablation study", global uniform sampling.
    """
    if references >= count:
        return list(range(count))
    return [(2 * place + 1) * count // (2 * references) for place in range(references)]


def random(count: int, references: int, time: int, seed: int) -> list[int]:
    """Draw frames from the video, once for all of its frames; otherwise as `uniform`."""
    generator = torch.Generator().manual_seed(seed)
    return sorted(torch.randperm(count, generator=generator)[:references].tolist())


def local(count: int, references: int, time: int, seed: int) -> list[int]:
    """Select the frames around each frame, without itself; otherwise as `uniform`.

    Where the video ends, those on the other side take the place of what is missing.
    """
    first = min(max(time - references // 2, 0), max(count - references - 1, 0))
    return [index for index in range(first, min(first + references + 1, count)) if index != time]


SELECTIONS: dict[str, Selection] = {"uniform": uniform, "random": random, "local": local}
"""The strategies by name."""
