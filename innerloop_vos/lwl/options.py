"""Settings of LWL on video."""

from dataclasses import dataclass, field

from innerloop_vos.configuration.options import changed
from innerloop_vos.lwl.tracking.region import BORDERS


@dataclass(frozen=True)
class RegionOptions:
    """Where an object is looked for. The defaults are the released system's.

    Where the paper differs, it has `border="inside"` and `half_cell_shift=False`.

    Args:
        output: height and width that the search region is resized to.
        search_factor: side of the search region in units of the object's. None: the whole frame.
        border: what happens to a search region that leaves the frame, one of `BORDERS`.
        half_cell_shift: whether the region is moved by half a feature pixel down and right.
        scale_change: min and max factor by which the region may scale from frame to frame.
        min_area: pixels below which an object's mask does not move its region.
    """

    output: tuple[int, int] = (480, 832)
    search_factor: float | None = 5.0
    border: str = "inside_major"
    half_cell_shift: bool = True
    scale_change: tuple[float, float] = (0.95, 1.1)
    min_area: int = 100

    def __post_init__(self) -> None:
        if len(self.output) != 2 or min(self.output) < 32 or max(self.output) > 8192:
            raise ValueError(f"output: {self.output}, should be two numbers from 32 to 8192")
        if self.search_factor is not None and self.search_factor <= 0:
            raise ValueError(f"search_factor: {self.search_factor}, should be None or positive")
        if self.border not in BORDERS:
            raise ValueError(f"border: {self.border!r}, should be one of {', '.join(BORDERS)}")
        if not 0.01 <= self.scale_change[0] <= self.scale_change[1] <= 100:
            raise ValueError(
                f"scale_change: {self.scale_change}, should be two factors, the smaller first, "
                "in 0.01..100"
            )
        _check_min("min_area", self.min_area, 0)


@dataclass(frozen=True)
class MemoryOptions:
    """What is remembered of an object. The defaults are the released system's.

    Where the paper differs, it has `squared_weights=False`, `geometric=True` and, from a mask,
    `first_weight=0`.

    Args:
        capacity: max number of samples per object, beside those of corrected frames; 1 for the
            first frame alone.
        learning_rate: of the samples' weights.
        first_weight: min weight of the first sample, and of those of corrected frames. None: the
            first can be replaced, and corrected ones have 0.25.
        geometric: whether the weights grow by 1 / (1 - learning_rate) from the first sample on; in
            the released system the second one has less, or from a box as much as the first.
        squared_weights: whether a sample's weight multiplies W, and so enters the loss squared,
            as in the released system; or its root does, and it enters the loss as it is.
    """

    capacity: int = 32
    learning_rate: float = 0.1
    first_weight: float | None = 0.25
    geometric: bool = False
    squared_weights: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.capacity <= 10_000:
            raise ValueError(f"capacity: {self.capacity}, should be from 1 to 10000")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate: {self.learning_rate}, should be between 0 and 1")
        if self.first_weight is not None and not 0 <= self.first_weight < 1:
            raise ValueError(f"first_weight: {self.first_weight}, should be None or in [0, 1)")


@dataclass(frozen=True)
class LWLOptions:
    """How a video is tracked. The defaults are the released system's.

    `configuration.options.changed` sets any of them by name, wherever it stands.

    Args:
        region: where an object is looked for.
        memory: what is remembered of it.
        init_steps: solver steps on the first frame of an object.
        update_steps: solver steps at an update.
        update_interval: frames from update to update.
    """

    region: RegionOptions = field(default_factory=RegionOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    init_steps: int = 20
    update_steps: int = 3
    update_interval: int = 1

    def __post_init__(self) -> None:
        _check_min("update_interval", self.update_interval, 1)
        _check_min("init_steps", self.init_steps, 1)
        _check_min("update_steps", self.update_steps, 0)


def _check_min(name: str, value: int, limit: int) -> None:
    if value < limit:
        raise ValueError(f"{name}: {value}, should be at least {limit}")


FROM_BOXES = changed(
    LWLOptions(), learning_rate=0.2, first_weight=None, update_steps=5, update_interval=5
)
"""The released settings of videos whose first masks were found in boxes, and are trusted less."""
