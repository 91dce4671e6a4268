"""The ridge method on real video: a guard of its quality, on training sequences of DAVIS."""

import pytest
from shared import SHARED, needs_shared

from innerloop_vos.backbones import backbone
from innerloop_vos.data import DavisDataset
from innerloop_vos.ridge import RidgeSegmenter
from innerloop_vos.scoring import region_similarity

FRAMES = 10


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "weights"),
    [
        ("small", "default"),
        ("efficientnet_lite0", "default"),
        ("mobilenet_v2", SHARED / "weights" / "mobilenet_v2-voc.safetensors"),
    ],
)
@pytest.mark.parametrize(("name", "least"), [("bear", 0.88), ("soccerball", 0.75)])
def test_the_object_is_followed_at_full_resolution(network, weights, name, least):
    clip = DavisDataset(SHARED / "data" / "DAVIS2016", split="train")[name]
    segmenter = RidgeSegmenter(backbone(network, weights))
    segmenter.start(clip.frames[0], clip.masks[0])
    scores = [
        region_similarity(segmenter.step(clip.frames[t]), clip.masks[t]) for t in range(1, FRAMES)
    ]
    assert sum(scores) / len(scores) > least, scores
