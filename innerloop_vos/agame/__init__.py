"""A-GAME: a generative appearance model of object and background, in closed form."""

from innerloop_vos.agame.builders import agame, save_agame
from innerloop_vos.agame.model.network import AGAME
from innerloop_vos.agame.options import AGAMEOptions
from innerloop_vos.agame.segmenter import AGAMESegmenter

__all__ = ["AGAME", "AGAMEOptions", "AGAMESegmenter", "agame", "save_agame"]
