"""Clips as users open and write them; the work is done in `innerloop_vos.io.video`."""

from innerloop_vos.io.video import open_frames, write_video

__all__ = ["open_frames", "write_video"]
