"""Readers of video object segmentation data sets, and clips that are made."""

from innerloop_vos.data.coco import CocoDataset
from innerloop_vos.data.davis import DavisDataset
from innerloop_vos.data.folder import FolderDataset
from innerloop_vos.data.photo_clips import photo_clip
from innerloop_vos.data.sequence import Annotations, Sequence, SequenceFolders
from innerloop_vos.data.synthetic import synthetic_clip, synthetic_image
from innerloop_vos.data.youtube_vos import MoseDataset, YouTubeVOSDataset

__all__ = [
    "Annotations",
    "CocoDataset",
    "DavisDataset",
    "FolderDataset",
    "MoseDataset",
    "Sequence",
    "SequenceFolders",
    "YouTubeVOSDataset",
    "photo_clip",
    "synthetic_clip",
    "synthetic_image",
]
