"""Settings of LWL on video."""

from dataclasses import dataclass, field

from innerloop.errors import InputError
from innerloop_vos.lwl.tracking.region import BORDERS

SOURCES = ("decoder", "scores")
"""Where the masks come from that updates learn from."""


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
        _check_one_of("border", self.border, BORDERS)
        _check_positive(search_factor=self.search_factor)
        _check_size(output=self.output)
        _check_min("min_area", self.min_area, 0)
        if not 0.01 <= self.scale_change[0] <= self.scale_change[1] <= 100:
            raise ValueError(
                f"scale_change: {self.scale_change}, should be two factors, the smaller first, "
                "in 0.01..100"
            )


@dataclass(frozen=True)
class MemoryOptions:
    """What is remembered of an object. The defaults are the released system's.

    Where the paper differs, it has `squared_weights=False` and `first_weight=0`.

    Args:
        capacity: max number of samples per object.
        learning_rate: of the samples' weights.
        first_weight: min weight of the first sample. None: it can be replaced.
        squared_weights: whether a sample's weight multiplies W, and so enters the loss squared,
            as in the released system; or its root does, and it enters the loss as it is.
        mirror: whether the first frame is learned from mirrored too; the two share its weight.
    """

    capacity: int = 32
    learning_rate: float = 0.1
    first_weight: float | None = 0.25
    squared_weights: bool = True
    mirror: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.capacity <= 10_000:
            raise ValueError(f"capacity: {self.capacity}, should be from 2 to 10000")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate: {self.learning_rate}, should be between 0 and 1")
        if self.first_weight is not None and not 0 <= self.first_weight < 1:
            raise ValueError(f"first_weight: {self.first_weight}, should be None or in [0, 1)")
        if self.mirror and self.first_weight is None:
            raise ValueError("mirror: True, should be False where first_weight is None")


@dataclass(frozen=True)
class TrustOptions:
    """How far the masks that are found are trusted. By default wholly, as in the released system.

    Args:
        reach: how far from where an object was, in units of the root of its area, a part of its
            mask may appear. None: anywhere in the search region.
        presence: the first target score of an object, about 1 where it is, must reach this
            somewhere. Else it counts as absent: its mask is empty, nothing is learned, and it is
            looked for in an ever larger region (`mask_label`). None: it is always there.
        learn_from: the masks that an update learns from, one of `SOURCES`: the merged "decoder"
            masks, as released; or those that the target model itself finds, "scores", before the
            decoder corrects them (`mask_label`), which drifts less where features are weak.
        consensus: whether a second filter is found on the features without the colour features, and
            has a say in what the decoder sees and in what "scores" learns (`mask_label`,
            `colours`).
    """

    reach: float | None = None
    presence: float | None = None
    learn_from: str = "decoder"
    consensus: bool = False

    def __post_init__(self) -> None:
        _check_one_of("learn_from", self.learn_from, SOURCES)
        _check_positive(reach=self.reach, presence=self.presence)


@dataclass(frozen=True)
class BoxOptions:
    """Where the mask of an object in a box is looked for.

    Args:
        box_factor: side of the region in units of the box's. None: the whole frame, at its own
            resolution.
        box_output: height and width that this region is resized to.
    """

    box_factor: float | None = None
    box_output: tuple[int, int] = (256, 448)

    def __post_init__(self) -> None:
        _check_positive(box_factor=self.box_factor)
        _check_size(box_output=self.box_output)


@dataclass(frozen=True)
class LWLOptions:
    """How a video is tracked. The defaults are the released system's.

    `configuration.options.changed` sets any of them by name, wherever it stands.

    Args:
        region: where an object is looked for.
        memory: what is remembered of it.
        trust: how far the masks that are found are trusted.
        box: where the mask in a box is looked for.
        init_steps: solver steps on the first frame of an object.
        update_steps: solver steps at an update.
        update_interval: frames from update to update.
    """

    region: RegionOptions = field(default_factory=RegionOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    trust: TrustOptions = field(default_factory=TrustOptions)
    box: BoxOptions = field(default_factory=BoxOptions)
    init_steps: int = 20
    update_steps: int = 3
    update_interval: int = 1

    def __post_init__(self) -> None:
        _check_min("update_interval", self.update_interval, 1)
        _check_min("init_steps", self.init_steps, 1)
        _check_min("update_steps", self.update_steps, 0)

    def check_possible(self, *, corrects: bool, colours: bool) -> None:
        """Raise InputError if a network cannot do what is asked.

        Args:
            corrects: whether its decoder corrects masks.
            colours: whether its target model sees colours.
        """
        trust = self.trust
        asked = {
            "learn_from: 'scores'": trust.learn_from == "scores",
            f"presence: {trust.presence}": trust.presence is not None,
            "consensus: True": trust.consensus,
        }
        for option, wanted in asked.items():
            if wanted and not corrects:
                raise InputError(f"{option} needs a network with mask_label")
        if trust.consensus and not colours:
            raise InputError("consensus: True needs a network with colours")


def _check_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {value!r}, should be one of {', '.join(allowed)}")


def _check_min(name: str, value: int, limit: int) -> None:
    if value < limit:
        raise ValueError(f"{name}: {value}, should be at least {limit}")


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value <= 0:
            raise ValueError(f"{name}: {value}, should be None or positive")


def _check_size(**sizes: tuple[int, int]) -> None:
    for name, size in sizes.items():
        if len(size) != 2 or min(size) < 32 or max(size) > 8192:
            raise ValueError(f"{name}: {size}, should be two numbers from 32 to 8192")
