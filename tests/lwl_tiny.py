"""Sizes of LWL networks that tests can train in seconds."""

TINY_SIZES = {
    "stride": 8,
    "outputs": 2,
    "label_widths": (4, 8, 8),
    "decoder_widths": (8, 8, 8, 8),
    "mask_label": True,
}
