"""Clips in and out: frames from a folder, a glob or a video file, and frames to a video file."""

from collections.abc import Iterable
from fractions import Fraction
from glob import glob, has_magic
from pathlib import Path

import av
import numpy as np
import torch
from av.container import OutputContainer
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.decoding import VideoFrames
from innerloop_vos.io.files import atomic_path
from innerloop_vos.io.frames import (
    IMAGE_NAMES,
    IMAGE_SUFFIXES,
    Frames,
    ImageFrames,
    folder_frames,
    leave_out,
    natural_order,
)

__all__ = ["Frames", "ImageFrames", "VideoFrames", "check_video_path", "open_frames", "write_video"]

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")


def open_frames(source: str | Path, without: Iterable[Path] = ()) -> Frames:
    """Open the frames of a clip.

    Args:
        source: a folder of images (JPEG, PNG, BMP, TIFF or WebP), a glob that matches such images,
            or a video file.
        without: files among them that are no frames, such as their masks.

    Returns:
        The frames: `len`, indexing, iteration, `names`, `size` and `rate`. Images come in
        the natural order of their names; a gap in their zero-padded numbering gives a warning.

    Raises:
        InputError: there is no such clip; images differ in size, or one in a folder is named
            differently; or the video is damaged or cut short.
    """
    path = Path(source)
    if path.is_dir():
        return ImageFrames(folder_frames(path, without))
    if path.exists():
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        return ImageFrames([path]) if is_image else VideoFrames(path)
    if not has_magic(str(source)):
        raise InputError(f"no such folder, video or image: {source}")
    paths = leave_out(natural_order(Path(match) for match in glob(str(source))), without)
    if not paths:
        raise InputError(f"no file matches {source}")
    if others := [path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES]:
        raise InputError(f"{source} matches {others[0]}, which is not a {IMAGE_NAMES} image")
    return ImageFrames(paths)


def write_video(path: str | Path, frames: Iterable[Tensor], rate: float) -> None:
    """Write an H.264 video, whole or not at all.

    Args:
        path: the file to write, ending in `.mp4`, `.mov` or `.mkv`.
        frames: frames, `(3, H, W)` uint8 RGB, all of one size; taken one at a time. An odd height
            or width, which the format does not support, is made even by repeating the last row or
            column.
        rate: frames per second.

    Raises:
        InputError: there are no frames, one has another type or size, or the file cannot be
            written.
    """
    check_video_path(path)
    try:
        with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
            _encode(container, frames, rate)
    except av.FFmpegError as error:
        raise InputError(f"cannot write video {path}: {error.strerror}") from error


def check_video_path(path: str | Path) -> None:
    """Check that `write_video` knows the format of a path's suffix.

    Args:
        path: the file to be written.

    Raises:
        InputError: the path has another suffix than `.mp4`, `.mov` or `.mkv`.
    """
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"video {path} should end in one of {', '.join(VIDEO_SUFFIXES)}")


def _encode(container: OutputContainer, frames: Iterable[Tensor], rate: float) -> None:
    stream = container.add_stream(
        "libx264", rate=Fraction(rate).limit_denominator(10_000), options={"crf": "18"}
    )
    stream.pix_fmt = "yuv420p"
    shape = None
    for frame in frames:
        if frame.dtype != torch.uint8 or frame.dim() != 3 or frame.shape[0] != 3:
            raise InputError(
                "frames should be (3, H, W) uint8; "
                f"got {tuple(frame.shape)} {str(frame.dtype).removeprefix('torch.')}"
            )
        if shape is None:
            shape = frame.shape
            stream.height, stream.width = (length + length % 2 for length in shape[1:])
        if frame.shape != shape:
            raise InputError(
                f"frames should all have one size, but {tuple(frame.shape)} follows {tuple(shape)}"
            )
        even = [(0, 0), (0, shape[1] % 2), (0, shape[2] % 2)]
        image = np.pad(frame.cpu().numpy(), even, mode="edge").transpose(1, 2, 0)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        container.mux(stream.encode(picture))
    if shape is None:
        raise InputError("there are no frames to write")
    container.mux(stream.encode())
