"""The ridge method: LWL's target model fitted to the mask itself, without any training."""

from innerloop_vos.ridge.features import TargetFeatures
from innerloop_vos.ridge.object_filter import RidgeOptions, balance
from innerloop_vos.ridge.segmenter import RidgeSegmenter

__all__ = ["RidgeOptions", "RidgeSegmenter", "TargetFeatures", "balance"]
