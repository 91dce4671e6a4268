"""Settings of LWL on video."""

from dataclasses import dataclass, replace

from innerloop_vos.lwl.tracking.region import BORDERS

SOURCES = ("decoder", "scores")
"""Where the masks come from that updates learn from."""


@dataclass(frozen=True)
class LWLOptions:
    """How a video is tracked. The defaults are the released system's.

    Where the paper differs from it, the paper has `squared_weights=False`, `first_weight=0`,
    `border="inside"` and `half_cell_shift=False`.

    Args:
        output: height and width that the search region is resized to. Default (480, 832).
        search_factor: side of the search region in units of the object's. None: the whole frame.
        border: what happens to a search region that leaves the frame, one of `BORDERS`.
        half_cell_shift: whether the region is moved by half a feature pixel down and right.
        scale_change: least and greatest factor by which the region may scale from frame to frame.
        min_area: pixels below which an object's mask does not move its region.
        reach: how far from where an object was, in units of the root of its area, a part of its
            mask may appear. None: anywhere in the search region.
        presence: least height that the first target score of an object, about 1 where it is, must
            reach somewhere. Else it counts as absent: its mask is empty, nothing is learned, and it
            is looked for ever further around (`mask_label`). None: it is always there.
        capacity: greatest number of samples per object.
        learning_rate: of the samples' weights.
        first_weight: least weight of the first sample. None: it can be replaced.
        squared_weights: whether a sample's weight multiplies W, and so enters the loss squared,
            as in the released system; or its root does, and it enters the loss as it is.
        mirror: whether the first frame is learned from mirrored too; the two share its weight.
        init_steps: solver steps on the first frame of an object.
        update_steps: solver steps at an update.
        update_interval: frames from update to update.
        learn_from: the masks that an update learns from, one of `SOURCES`: the merged "decoder"
            masks, as released; or those that the target model itself finds, "scores", before the
            decoder corrects them (`mask_label`), which drifts less where features are weak.
        consensus: whether a second filter is found on the features without those of colour, and has
            a say in what the decoder sees and in what "scores" learns (`mask_label` and `colours`).
        box_factor: side of the region that the mask in a box is looked for in, in units of the
            box's. None: the whole frame, at its own resolution.
        box_output: height and width that this region is resized to.
    """

    output: tuple[int, int] = (480, 832)
    search_factor: float | None = 5.0
    border: str = "inside_major"
    half_cell_shift: bool = True
    scale_change: tuple[float, float] = (0.95, 1.1)
    min_area: int = 100
    reach: float | None = None
    presence: float | None = None
    capacity: int = 32
    learning_rate: float = 0.1
    first_weight: float | None = 0.25
    squared_weights: bool = True
    mirror: bool = False
    init_steps: int = 20
    update_steps: int = 3
    update_interval: int = 1
    learn_from: str = "decoder"
    consensus: bool = False
    box_factor: float | None = None
    box_output: tuple[int, int] = (256, 448)

    def __post_init__(self) -> None:
        if self.border not in BORDERS:
            raise ValueError(f"border: {self.border!r}, should be one of {', '.join(BORDERS)}")
        if self.learn_from not in SOURCES:
            raise ValueError(
                f"learn_from: {self.learn_from!r}, should be one of {', '.join(SOURCES)}"
            )
        if self.capacity < 2:
            raise ValueError(f"capacity: {self.capacity}, should be at least 2")
        if self.capacity > 10_000:
            raise ValueError(f"capacity: {self.capacity}, should be at most 10000")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate: {self.learning_rate}, should be between 0 and 1")
        if self.first_weight is not None and not 0 <= self.first_weight < 1:
            raise ValueError(f"first_weight: {self.first_weight}, should be None or in [0, 1)")
        if self.mirror and self.first_weight is None:
            raise ValueError("mirror: True, should be False where first_weight is None")
        least = {"update_interval": 1, "init_steps": 1, "update_steps": 0, "min_area": 0}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise ValueError(f"{name}: {getattr(self, name)}, should be at least {limit}")
        for name in ("search_factor", "box_factor", "reach", "presence"):
            factor = getattr(self, name)
            if factor is not None and factor <= 0:
                raise ValueError(f"{name}: {factor}, should be None or positive")
        for name in ("output", "box_output"):
            size = getattr(self, name)
            if len(size) != 2 or min(size) < 32 or max(size) > 8192:
                raise ValueError(f"{name}: {size}, should be two numbers from 32 to 8192")
        if not 0.01 <= self.scale_change[0] <= self.scale_change[1] <= 100:
            raise ValueError(
                f"scale_change: {self.scale_change}, should be two factors, the least first, "
                "in 0.01..100"
            )


BOX_OPTIONS = LWLOptions(learning_rate=0.2, first_weight=None, update_steps=5, update_interval=5)
"""Settings for a first mask that was found in a box: it is trusted less."""

STRIDE_8_OPTIONS = LWLOptions(
    search_factor=3.5,
    half_cell_shift=False,
    capacity=8,
    first_weight=0.75,
    squared_weights=False,
    init_steps=50,
    update_steps=5,
)
"""Settings for networks at stride 8: few samples, for each is four times as large."""

STRIDE_8_BOX_OPTIONS = replace(STRIDE_8_OPTIONS, first_weight=0.5, box_factor=2.5)
"""As `STRIDE_8_OPTIONS`, for a first mask that was found in a box."""
