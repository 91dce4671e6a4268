"""Frames decoded from a video file, complete or not at all."""

import os
import re
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.files import regular_file
from innerloop_vos.io.frames import IMAGE_RATE, Frames

# Formats that contain their pictures. Playlists, whatever their name, lead to other files or to the
# network.
_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,"
    "ogg,gif,yuv4mpegpipe,mxf,m4v,h264,hevc,ivf",
    "protocol_whitelist": "file",
}


class VideoFrames(Frames):
    """Frames of a video file, rotated (by quarter turns) and mirrored as its metadata says.

    Opening decodes the whole stream once without keeping a frame. Only this gives the exact number
    of frames, and finds damage before any work is done on the first one. Reading forward decodes
    each frame once; reading backward starts again from the first.

    Args:
        path: a file that FFmpeg reads and that contains its pictures: MP4, MOV, MKV, WebM,
            AVI, MPEG, FLV, WMV, Ogg, GIF ...

    Raises:
        InputError: the file cannot be read, holds no video, is damaged, or is cut short.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = regular_file(path, "video")
        sizes: dict[tuple[int, int], int] = {}  # the first frame of each size
        count = 0
        for count, frame in enumerate(self._decode(), start=1):
            height, width = frame.height, frame.width
            size = (width, height) if _turn(frame)[0] else (height, width)
            sizes.setdefault(size, count - 1)
        if len(sizes) > 1:
            changes = ", ".join(f"{w}x{h} from frame {i}" for (h, w), i in sizes.items())
            raise InputError(f"video {path} changes size: {changes}")
        self.size = next(iter(sizes))
        self.names = [f"{index:05d}" for index in range(count)]
        self._decoder = self._decode()
        self._next = 0

    def __iter__(self) -> Iterator[Tensor]:
        return map(_to_tensor, self._decode())

    def _read(self, index: int) -> Tensor:
        if index < self._next:
            self._decoder = self._decode()
            self._next = 0
        frame = next(islice(self._decoder, index - self._next, None))
        self._next = index + 1
        return _to_tensor(frame)

    def _decode(self) -> Iterator[VideoFrame]:
        try:
            # An absolute path is never taken as another protocol, as "concat:a|b" would be.
            path = os.path.abspath(self.path)
            with av.open(path, options=_OPTIONS, metadata_errors="replace") as container:
                stream = container.streams.best("video")
                if not isinstance(stream, VideoStream):
                    raise InputError(f"{self.path} holds no video")
                if stream.codec_context is None:
                    raise InputError(f"video {self.path} is of an unknown codec, or damaged")
                # The same limit as for images; FFmpeg refuses to allocate more.
                stream.codec_context.options = {"max_pixels": str(Image.MAX_IMAGE_PIXELS)}
                self.rate = float(stream.average_rate or IMAGE_RATE)
                yield from _whole_stream(self.path, container, stream, self.rate)
        except av.FFmpegError as error:
            raise InputError(
                f"video {self.path} cannot be decoded; it is damaged, cut short or not a video: "
                f"{error.strerror}"
            ) from error


def _whole_stream(
    name: Path, container: InputContainer, stream: VideoStream, rate: float
) -> Iterator[VideoFrame]:
    """Yield every frame; raise if one is damaged or there are fewer than the file declares."""
    declared_packets = _declared_packets(container, stream)
    declared_end = _declared_end(container, stream)
    unit = float(stream.time_base or 1 / rate)  # seconds
    stream.thread_type = "AUTO"
    times, ends = [], []
    frames = 0
    for packet in container.demux(stream):
        if packet.dts is not None or packet.size:  # all but the one that flushes the decoder
            times.append(unit * (packet.pts or 0))
            ends.append(times[-1] + unit * (packet.duration or 0))
        # Decoders conceal what they cannot read: without this, damage would be a grey smear.
        if packet.is_corrupt:
            raise InputError(f"video {name} is damaged or cut short at frame {frames}")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise InputError(f"video {name} is damaged at frame {frames}")
            frames += 1
            yield frame
    if not frames:
        raise InputError(f"video {name} holds no frame; it may be cut short")
    if len(times) < declared_packets:
        raise InputError(
            f"video {name} is cut short: it declares {declared_packets} frames and holds "
            f"{len(times)}"
        )
    if declared_packets or declared_end is None:
        return
    # The duration of the last frame is not always written; it is at most that of any other.
    gaps = [after - before for before, after in pairwise(sorted(times))] or [1 / rate]
    end = max(*ends, max(times) + min(gaps))
    if end + max(gaps) - min(gaps) / 2 < declared_end:
        raise InputError(
            f"video {name} is cut short: it declares {declared_end:.3f} s and ends at {end:.3f} s"
        )


def _declared_packets(container: InputContainer, stream: VideoStream) -> int:
    """Return the number of packets that the header declares, 0 if it does not say."""
    if stream.frames and "mp4" in container.format.name.split(","):
        # An edit list can leave out samples that the header counts; the index has the played ones.
        return min(stream.frames, len(stream.index_entries))
    return stream.frames


def _declared_end(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the second at which the header says the video ends, if it says so."""
    for key, value in stream.metadata.items():  # Matroska's statistics tags: DURATION, DURATION-eng
        match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", value)
        if key.startswith("DURATION") and match:
            return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
    # The container's duration is that of its longest stream, which need not be this one.
    if len(container.streams) > 1 or container.duration is None:
        return None
    return container.duration / av.time_base


def _to_tensor(frame: VideoFrame) -> Tensor:
    image = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
    transposed, flipped = _turn(frame)
    return (image.transpose(1, 2) if transposed else image).flip(flipped).contiguous()


def _turn(frame: VideoFrame) -> tuple[bool, list[int]]:
    """How a frame is shown: whether it is transposed, and the dimensions flipped after that."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, []
    # It takes a pixel (x, y) to (a x + c y, b x + d y), plus a shift.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    down, right = (b, c) if transposed else (d, a)
    return transposed, [dim for dim, scale in ((1, down), (2, right)) if scale < 0]
