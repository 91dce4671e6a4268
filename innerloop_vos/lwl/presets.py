"""Settings that go with a network, and are saved with its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from innerloop_vos.configuration.options import changed, flat
from innerloop_vos.lwl.options import LWLOptions


@dataclass(frozen=True)
class Preset:
    """How videos are tracked with a network.

    Args:
        mask: videos that start from a mask.
        box: videos whose first mask was found in a box.
    """

    mask: LWLOptions
    box: LWLOptions

    def changed(self, **settings: Any) -> "Preset":
        """The same with other settings, by name."""
        return Preset(changed(self.mask, **settings), changed(self.box, **settings))

    def to_json(self) -> dict[str, dict[str, Any]]:
        """All settings by name, for JSON."""
        return {"mask": flat(self.mask), "box": flat(self.box)}

    @classmethod
    def from_json(cls, written: Mapping[str, Mapping[str, Any]]) -> "Preset":
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else, or a setting is out of range.
        """

        def read(settings: Mapping[str, Any]) -> LWLOptions:
            if not isinstance(settings, dict):
                raise TypeError(f"preset: {type(settings).__name__}, should be settings by name")
            lists = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
            return changed(LWLOptions(), **lists)

        return cls(read(written["mask"]), read(written["box"]))


RELEASED = Preset(
    LWLOptions(),
    # A first mask that was found in a box is trusted less.
    changed(LWLOptions(), learning_rate=0.2, first_weight=None, update_steps=5, update_interval=5),
)
"""The released system's."""

_STRIDE_8 = changed(
    LWLOptions(),
    search_factor=3.5,
    half_cell_shift=False,
    capacity=8,
    first_weight=0.75,
    squared_weights=False,
    init_steps=50,
    update_steps=5,
)
LIGHT = Preset(_STRIDE_8, changed(_STRIDE_8, first_weight=0.5, box_factor=2.5))
"""For networks at stride 8: few samples, for each is four times as large."""

SMALL = LIGHT.changed(learn_from="scores", update_steps=3, mirror=True, reach=1.0)
"""For the small backbone and a decoder that corrects masks, which drift without; chosen on whole
held-out clips of DAVIS's train split."""

SMALL_WITH_COLOURS = SMALL.changed(presence=0.6, consensus=True)
"""For a target model that sees colours too, and would follow whatever has the object's."""


def of_small(sizes: Mapping[str, Any]) -> Preset:
    """The preset of a network of these sizes on the small backbone."""
    if not sizes["mask_label"]:
        return LIGHT
    return SMALL_WITH_COLOURS if sizes["colours"] else SMALL
