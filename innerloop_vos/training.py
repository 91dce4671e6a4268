"""What every training shares: the loop with its progress bar, checkpoints, curve and clean stop."""

import json
import math
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from innerloop_vos.errors import InputError
from innerloop_vos.files import atomic_path, prepare_output

CHECKPOINT = "checkpoint.pt"
_LOG_EVERY = 50

Figures = dict[str, float]
"""Figures by name; ``"group/name"`` puts those of a group into one panel of the curve."""


class Training(ABC):
    """One training: its step, its figures and its state. ``run`` does the rest."""

    @abstractmethod
    def step(self, iteration: int) -> Figures:
        """Take optimizer step ``iteration``, counted from 0, and return its losses."""

    @abstractmethod
    def evaluate(self) -> Figures:
        """Return figures on held-out data."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the weights that a user of the trained network needs."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, as tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``, or raise InputError if it is another training's."""


def run(
    training: Training, out: str | Path, iterations: int, *, every: int, resume: bool = False
) -> bool:
    """Train until done or interrupted (Ctrl-C), writing checkpoints, weights and a curve.

    Args:
        training: What to train.
        out: Folder for ``checkpoint.pt``, ``curve.json``, ``curve.png`` and the weights.
        iterations: Number of steps in all, those before a resumed checkpoint included.
        every: Steps between two evaluations, each followed by a checkpoint.
        resume: Continue from the checkpoint in ``out``. The weights come out the same to the bit
            as those of a training that was never interrupted.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: ``out`` cannot be written to, holds no checkpoint to resume from, or holds one
            while ``resume`` is False; or a loss became infinite or not a number.
    """
    out = prepare_output(out)
    path = out / CHECKPOINT
    progress: dict[str, Any] = {"iteration": 0, "pending": [], "history": []}
    if resume:
        progress = _restore(training, path)
    elif path.exists():
        raise InputError(f"{path} exists: resume that training or choose another folder")
    history, start = progress["history"], progress["iteration"]
    with (
        _interruption() as interrupted,
        tqdm(total=iterations, initial=start, unit="step", smoothing=0.05) as bar,
    ):
        for done in range(start + 1, iterations + 1):
            losses = training.step(done - 1)
            _check(losses, done)
            bar.update()
            progress["iteration"] = done
            progress["pending"].append(losses)
            if done % _LOG_EVERY == 0 or done == iterations:
                means = _means(progress["pending"])
                progress["pending"] = []
                history.append({"iteration": done} | means)
                bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
            if due := done % every == 0 or done == iterations:
                history.append({"iteration": done} | training.evaluate())
                training.export(out)
            if due or interrupted():
                _save(training, path, progress)
                write_curve(out, history)
            if interrupted():
                return done == iterations
    return True


def cosine_rate(iteration: int, iterations: int, *, warmup: int) -> float:
    """Return the factor of the learning rate: a linear rise, then half a cosine down to zero.

    Args:
        iteration: The step about to be taken, counted from 0.
        iterations: Number of steps in all.
        warmup: Number of steps of the rise.

    Source:
        Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
        eq. 5, without restarts.
    """
    if iteration < warmup:
        return (iteration + 1) / warmup
    progress = (iteration - warmup) / max(1, iterations - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def check_settings(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Check that a checkpoint is of a training with the same settings.

    Args:
        ours: The settings of this training, by name.
        theirs: Those in the checkpoint.

    Raises:
        InputError: Some differ; it names them with what they were.
    """
    if changed := [name for name in ours if ours[name] != theirs.get(name)]:
        was = ", ".join(f"{name} {theirs.get(name)}" for name in changed)
        raise InputError(f"the training to resume had other settings: {was}")


def write_curve(folder: Path, history: list[Figures]) -> None:
    """Write figures over iterations as ``curve.json`` and, a panel a group, as ``curve.png``.

    Args:
        folder: Folder, which exists.
        history: Records, each with ``"iteration"`` and figures.

    Raises:
        InputError: The folder cannot be written to.
    """
    # matplotlib takes a second to import, and only trainings plot.
    from matplotlib.figure import Figure

    with atomic_path(folder / "curve.json") as temporary:
        temporary.write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    names = list(dict.fromkeys(n for record in history for n in record if n != "iteration"))
    groups = list(dict.fromkeys(name.partition("/")[0] for name in names))
    figure = Figure(figsize=(5 * max(1, len(groups)), 4), layout="constrained")
    for place, group in enumerate(groups, start=1):
        axes = figure.add_subplot(1, len(groups), place, title=group, xlabel="iteration")
        for name in names:
            if name.partition("/")[0] == group:
                points = [(r["iteration"], r[name]) for r in history if name in r]
                axes.plot(*zip(*points, strict=True), label=name.partition("/")[2] or name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    with atomic_path(folder / "curve.png") as temporary:
        figure.savefig(temporary, dpi=100)


def _means(records: list[Figures]) -> Figures:
    return {name: sum(record[name] for record in records) / len(records) for name in records[0]}


def _check(losses: Figures, done: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise InputError(f"{name} became {value} at step {done}; try a lower learning rate")


def _save(training: Training, path: Path, progress: dict[str, Any]) -> None:
    # The generator is part of the state: a resumed training draws the same batches.
    state = progress | {"training": training.state_dict(), "generator": torch.get_rng_state()}
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _restore(training: Training, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path} to resume from")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        training.load_state_dict(state.pop("training"))
        torch.set_rng_state(state.pop("generator"))
    except (UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise InputError(f"{path} is not a checkpoint of this training: {error}") from error
    return state


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag that the loop reads between steps; a second one kills."""
    caught: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(caught)
    finally:
        signal.signal(signal.SIGINT, previous)
