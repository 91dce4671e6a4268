"""Segmenting a clip so that a process which is stopped can be followed by another that goes on."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from innerloop._states import read_state, write_state
from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path, prepare_output
from innerloop_vos.io.frames import Frames
from innerloop_vos.io.masks import write_mask
from innerloop_vos.runs import signals
from innerloop_vos.runs.folder import Record, check_same, digest, sweep
from innerloop_vos.runs.progress import WorkBar
from innerloop_vos.runs.segmentation import frame_order, segment_next
from innerloop_vos.segmenter import Segmenter
from innerloop_vos.unsupervised import UnsupervisedSegmenter

UNFINISHED = ".unfinished"
"""Folder in that of the masks, which holds what is done until all is."""

_STATE = "state.pt"
_OFTEN = 20.0
"""Seconds between two states, for each that writing one takes: a twentieth of the time at most."""


def segment_to(
    out: Path,
    segmenter: Segmenter,
    frames: Frames,
    given: Mapping[int, Tensor],
    record: Record,
    *,
    corrections: Mapping[int, Tensor] | None = None,
    from_boxes: bool = False,
    backwards: bool = False,
) -> None:
    """Segment a clip into one palette PNG a frame, `out/NAME.png`; all of them, or none.

    What is done lies in `out/.unfinished` until all is: the masks, and the state of the segmenter,
    written every so often and when a signal comes. A further call goes on from there, and the masks
    are the same to the bit as if it had not been stopped.

    Args:
        out: the folder, which exists and no other process writes to.
        segmenter: the method.
        frames: the clip.
        given: masks, by frame index; see `innerloop_vos.runs.segmentation.segment_frames`.
        record: what this was started with, see `innerloop_vos.runs.folder.describe`.
        corrections: as of `innerloop_vos.runs.segmentation.segment_next`. Default: none.
        from_boxes: whether the masks were found in boxes. Default False.
        backwards: whether the frames before the first mask are segmented too, backwards. Default:
            they have no object.

    Raises:
        InputError: what is done was started with something else, or is damaged; or the clip cannot
            be segmented, and then nothing of it is left.
        KeyboardInterrupt: A signal came; what is done is kept.
    """
    find = partial(
        segment_next,
        segmenter,
        frames,
        given,
        corrections=corrections,
        from_boxes=from_boxes,
        backwards=backwards,
    )
    order = frame_order(len(frames), min(given), backwards=backwards)
    with WorkBar() as segmenter.on_progress:
        _write(out, segmenter, [(frames.names[i], partial(find, i)) for i in order], record)


def find_to(out: Path, segmenter: UnsupervisedSegmenter, frames: Frames, record: Record) -> None:
    """Find the objects of a clip; otherwise as `segment_to`.

    Args:
        out: the folder, which exists and no other process writes to.
        segmenter: the method.
        frames: the clip.
        record: what this was started with.

    Raises:
        InputError: as `segment_to`.
        KeyboardInterrupt: A signal came; what is done is kept.
    """
    segmenter.start(frames)
    # Of a video file, this reads forward wherever the segmenter reads.
    stream = enumerate(frames)

    def find(index: int) -> Tensor:
        return segmenter.step(next(frame for place, frame in stream if place == index))

    order = range(len(frames))
    _write(out, segmenter, [(frames.names[i], partial(find, i)) for i in order], record)


def _write(
    out: Path,
    segmenter: Segmenter | UnsupervisedSegmenter,
    frames: Sequence[tuple[str, Callable[[], Tensor]]],
    record: Record,
) -> None:
    """Write the masks of frames, of which each has a name and a function that finds its mask."""
    folder = out / UNFINISHED
    if folder.is_symlink():
        raise InputError(f"{folder} is a link; remove it")
    state_path = folder / _STATE
    digests: list[str] = []
    names = [name for name, _ in frames]
    if state_path.exists() or state_path.is_symlink():
        digests = _restore(segmenter, state_path, names, out, record)
    elif folder.exists():
        shutil.rmtree(folder)
    prepare_output(folder)
    sweep(folder)
    try:
        with signals.remembered() as interrupted:
            _segment(folder, segmenter, frames, record, digests, interrupted)
            for name in names:
                path = folder / f"{name}.png"
                if path.exists():  # or it was moved by a process that was killed then
                    with atomic_path(out / path.name) as temporary:
                        path.replace(temporary)
    except Exception:
        shutil.rmtree(folder)
        raise
    state_path.unlink()  # the rest counts for nothing without it
    shutil.rmtree(folder)


def _segment(
    folder: Path,
    segmenter: Segmenter | UnsupervisedSegmenter,
    frames: Sequence[tuple[str, Callable[[], Tensor]]],
    record: Record,
    digests: list[str],
    interrupted: Callable[[], bool],
) -> None:
    """Write the masks that are not done yet, and add their digests to those that are."""
    saved, cost = time.monotonic(), 1 / _OFTEN
    with tqdm(total=len(frames), initial=len(digests), desc="segmenting", unit="frame") as bar:
        for name, find in frames[len(digests) :]:
            path = folder / f"{name}.png"
            write_mask(path, find())
            digests.append(digest([path]))
            bar.update()
            done = len(digests) == len(frames)
            if interrupted() or done or time.monotonic() - saved > _OFTEN * cost:
                begin = time.monotonic()
                write_state(folder / _STATE, _state(segmenter, digests, record, done))
                saved = time.monotonic()
                cost = max(saved - begin, 1 / _OFTEN)
            if interrupted() and not done:
                raise KeyboardInterrupt


def _state(
    segmenter: Segmenter | UnsupervisedSegmenter, digests: list[str], record: Record, done: bool
) -> dict[str, Any]:
    state: dict[str, Any] = {"record": record, "masks": digests}
    # When all is done, only the masks are to be moved.
    return state | {
        "segmenter": None if done else segmenter.state_dict(),
        "generator": torch.get_rng_state(),
    }


def _restore(
    segmenter: Segmenter | UnsupervisedSegmenter,
    path: Path,
    names: Sequence[str],
    out: Path,
    record: Record,
) -> list[str]:
    """Continue from a state, and return the digests of the masks that are done."""
    how = f"; remove {path.parent} to start from the first frame"
    try:
        state = read_state(path)
        check_same(state["record"], record, str(path.parent))
        digests = state["masks"]
        if not isinstance(digests, list) or len(digests) > len(names):
            raise TypeError("masks")
        done = len(digests) == len(names)
        for name, known in zip(names, digests, strict=False):
            mask = path.parent / f"{name}.png"
            if done and not mask.exists():
                mask = out / mask.name
            if mask.is_symlink() or digest([mask]) != known:
                raise InputError(f"{mask} is not as it was written")
        if not done:
            segmenter.load_state_dict(state["segmenter"])
        torch.set_rng_state(state["generator"])
    except InputError as error:
        raise InputError(f"{error}{how}") from None
    except Exception as error:  # a state of something else raises almost anything
        raise InputError(f"{path} is no state of this run: {type(error).__name__}{how}") from None
    return digests
