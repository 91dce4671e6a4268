"""The rows of LWL's ablations: how each one's network differs, is trained and is run."""

from dataclasses import dataclass, field
from typing import Any

from innerloop_vos.lwl.builders import LIGHT_SIZES

_UNIT_WEIGHTS = {"weight_predictor_rate": 0.0}
"""The label weights keep their initial value, 1."""

_DECODER_ALONE = _UNIT_WEIGHTS | {
    "projection_rate": 0.0,
    "regularization_rate": 0.0,
    "label_encoder_rate": 0.0,
}
"""No gradient passes through the inner solver, as none of its inputs is trained."""

_MASK_ALONE = {"outputs": 1}
"""The only label is the mask itself (`mask_label`)."""

_NEVER = 10**9


@dataclass(frozen=True)
class Row:
    """One row of a table, or one point of a figure.

    Args:
        label: name of the row in the table.
        training: name of the training that the row needs; rows of the same name share it. None:
            the untrained network.
        sizes: sizes of the network that differ from the defaults.
        settings: settings of the training that differ from the defaults.
        options: options of the segmenter that differ from the defaults.
        backbone_weights: index of the backbone's file among the given ones.
    """

    label: str
    training: str | None = "full"
    sizes: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    backbone_weights: int = 0


def _channels(count: int) -> Row:
    if count == 1:
        return Row("1", "end-to-end", _MASK_ALONE)
    if count == LIGHT_SIZES["outputs"]:
        return Row(str(count))
    return Row(str(count), f"outputs-{count}", {"outputs": count})


def _updates(label: str, steps: int, interval: int = 1) -> Row:
    return Row(label, options={"update_steps": steps, "update_interval": interval})


ABLATIONS: dict[str, list[Row]] = {
    "table1": [
        Row("(before training)", None, _MASK_ALONE),
        Row("baseline", "decoder-alone", _MASK_ALONE, _DECODER_ALONE),
        Row("+ end-to-end training", "end-to-end", _MASK_ALONE),
        Row("+ label encoder", "unit-weights", settings=_UNIT_WEIGHTS),
        Row("+ weight predictor"),
    ],
    "table6": [
        Row("first backbone weights"),
        Row("second backbone weights", backbone_weights=1),
    ],
    "table7": [
        Row("Lovász", "lovasz", settings={"loss": "lovasz"}),
        Row("cross-entropy"),
    ],
    "fig7": [_channels(count) for count in (1, 2, 4, 8, 16)],
    "fig8-iterations": [
        _updates("0", 1, _NEVER),
        _updates("1/8", 1, 8),
        _updates("1/4", 1, 4),
        _updates("1/2", 1, 2),
        *(_updates(str(steps), steps) for steps in (1, 2, 3, 5, 10)),
    ],
    # With a min share for the first sample, the rate would hardly matter.
    "fig8-rate": [
        Row(f"{rate:g}", options={"learning_rate": rate, "first_weight": 0.0})
        for rate in (0.01, 0.03, 0.1, 0.2, 0.4, 0.8)
    ],
    "fig9": [
        _updates("1", 1, _NEVER),
        *(Row(str(count), options={"capacity": count}) for count in (2, 4, 8, 16, 32)),
    ],
    "table9": [
        Row("search region"),
        Row("full frame", options={"search_factor": None}),
    ],
}
"""Rows by the number of the table or figure in the paper.

Here one label is always the mask itself, with weights that balance object and background; the
others, and their weights, are learned. "0" updates and a memory of "1" both mean that the target
model is that of the first frame.
"""
