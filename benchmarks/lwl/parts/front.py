"""Quality against time, as a picture."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from innerloop_vos.io.files import atomic_path


def plot_front(points: Mapping[str, tuple[float, float]], picture: Path) -> None:
    """Draw variants as points.

    Args:
        points: by name, seconds of a frame and J&F in percent.
        picture: PNG file.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, (seconds, quality) in points.items():
        axes.scatter(seconds, quality)
        axes.annotate(name, (seconds, quality), xytext=(4, 4), textcoords="offset points")
    axes.set_xlim(left=0, right=1.4 * max(seconds for seconds, _ in points.values()))
    axes.set_xlabel("CPU seconds a frame")
    axes.set_ylabel("J&F, %")
    axes.grid(alpha=0.3)
    with atomic_path(picture) as path:
        figure.savefig(path, dpi=120)
