"""Masks as users read, check and write them; the work is done in `innerloop_vos.io.masks`."""

from innerloop_vos.io.masks import PALETTE, box_to_mask, mask_to_box, read_mask, write_mask

__all__ = ["PALETTE", "box_to_mask", "mask_to_box", "read_mask", "write_mask"]
