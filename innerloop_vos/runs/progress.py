"""A progress bar of the work within a frame."""

from typing import Any

from tqdm import tqdm

from innerloop_vos.segmenter import Progress


class WorkBar:
    """Shows what `Segmenter.on_progress` is called with, below the bar of the frames.

    It is a context manager: at its end nothing is left of the bar.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> "WorkBar":
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def __call__(self, progress: Progress) -> None:
        """Show a step, its loss and the time left."""
        if self._bar is None or progress.done <= self._bar.n:
            self._close()  # of work that was given up
            self._bar = tqdm(total=progress.total, desc=progress.what, unit="step", leave=False)
        self._bar.set_postfix(loss=f"{progress.loss:.3f}", refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if progress.done == progress.total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
