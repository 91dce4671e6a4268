"""COSNet: unsupervised video object segmentation with co-attention siamese networks."""

from innerloop_vos.cosnet.builders import cosnet, save_cosnet
from innerloop_vos.cosnet.model.network import FORMS, COSNet
from innerloop_vos.cosnet.options import COSNetOptions
from innerloop_vos.cosnet.segmenter import COSNetSegmenter
from innerloop_vos.cosnet.selection import SELECTIONS

__all__ = [
    "FORMS",
    "SELECTIONS",
    "COSNet",
    "COSNetOptions",
    "COSNetSegmenter",
    "cosnet",
    "save_cosnet",
]
