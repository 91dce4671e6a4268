"""COSNet: unsupervised video object segmentation with co-attention siamese networks."""

from innerloop_vos.cosnet.builders import cosnet
from innerloop_vos.cosnet.model.network import FORMS, COSNet
from innerloop_vos.cosnet.options import COSNetOptions
from innerloop_vos.cosnet.segmenter import COSNetSegmenter
from innerloop_vos.cosnet.selection import SELECTIONS
from innerloop_vos.cosnet.weights import load_cosnet, save_cosnet

__all__ = [
    "FORMS",
    "SELECTIONS",
    "COSNet",
    "COSNetOptions",
    "COSNetSegmenter",
    "cosnet",
    "load_cosnet",
    "save_cosnet",
]
