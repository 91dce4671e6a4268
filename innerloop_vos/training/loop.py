"""The loop of every training, with progress bar, checkpoints, curve and clean stop."""

import math
from abc import ABC, abstractmethod
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from innerloop._states import read_state, write_state
from innerloop.errors import InputError
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.io.files import prepare_output
from innerloop_vos.runs import signals
from innerloop_vos.runs.folder import Record, check_same, locked
from innerloop_vos.training import processes
from innerloop_vos.training.curve import Curve, Figures, open_board

__all__ = ["Figures", "Stateful", "Training", "check_settings", "cosine_rate", "run"]

CHECKPOINT = "checkpoint.pt"
_LOG_EVERY = 50


class Stateful(Protocol):
    """Has a state: a network, an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class Training(ABC):
    """One training: its step, its figures and its state. `run` does the rest.

    Attributes:
        sampler: what its draws come from, where those of the next step depend on its `place`.
    """

    sampler: Sampler | None = None

    @abstractmethod
    def step(self, iteration: int) -> Figures:
        """Take optimizer step `iteration`, counted from 0, and return its losses.

        Draws come from torch's global generator and `sampler`, and `processes.average_gradients`
        stands before the optimizer.
        """

    @abstractmethod
    def evaluate(self) -> Figures:
        """Return measurements on held-out data."""

    def rates(self) -> Figures:
        """Return the learning rates of the last step, for the curve. Default: none."""
        return {}

    def pictures(self) -> dict[str, Tensor]:
        """Return pictures for TensorBoard, RGB in 0..1, `(3, H, W)`. Default: none."""
        return {}

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the weights that a user of the trained network needs."""

    @abstractmethod
    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the groups of settings, by name, that a resumed training must share."""

    @abstractmethod
    def parts(self) -> dict[str, Stateful]:
        """Return all objects, by name, whose state the next step depends on."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, as tensors and plain values."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        return self.configuration() | states

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            InputError: the checkpoint was made with other settings; the message names them.
        """
        for name, settings in self.configuration().items():
            check_settings(settings, state[name])
        for name, part in self.parts().items():
            part.load_state_dict(state[name])


def run(
    training: Training,
    out: str | Path,
    iterations: int,
    *,
    every: int,
    resume: bool = False,
    tensorboard: bool = False,
    record: Record | None = None,
) -> bool:
    """Train until done or interrupted (Ctrl-C, SIGTERM), writing checkpoints, weights and a curve.

    In several processes (see `processes`) each draws its own batches; only the first evaluates and
    writes.

    Args:
        training: the training to run; the same in every process.
        out: folder for `checkpoint.pt`, `curve.json`, `curve.png` and the weights.
        iterations: number of steps in all, those before a resumed checkpoint included.
        every: steps between two evaluations, each followed by a checkpoint.
        resume: continue from the checkpoint in `out`. The weights come out the same to the bit
            as those of a training that was never interrupted.
        tensorboard: log the curve and pictures for TensorBoard too, in `tensorboard`.
        record: what the training was started with, see `innerloop_vos.runs.folder.describe`; a
            checkpoint is only resumed with the same. Default: nothing.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: `every` is not positive; `out` cannot be written to, holds no checkpoint to
            resume from, or holds one while `resume` is False, or one that is damaged, of another
            training or of another number of processes; another process trains in `out`;
            TensorBoard is not installed; or a loss became infinite or not a number.
    """
    if every < 1:
        raise InputError(f"every should be positive, got {every}")
    out, first = Path(out), processes.rank() == 0
    if first:
        prepare_output(out)
    with locked(out) if first else nullcontext():
        return _run(training, out, iterations, every, resume, tensorboard, record or {})


def _run(
    training: Training,
    out: Path,
    iterations: int,
    every: int,
    resume: bool,
    tensorboard: bool,
    record: Record,
) -> bool:
    """`run`, in a folder that no other process writes to."""
    path, first = out / CHECKPOINT, processes.rank() == 0
    progress: dict[str, Any] = {"iteration": 0, "pending": [], "history": []}
    if resume:
        progress = _restore(training, path, record)
    elif path.exists():
        raise InputError(f"{path} exists: resume that training or choose another folder")
    elif not first:
        torch.manual_seed(torch.initial_seed() + processes.rank())
    start = progress["iteration"]
    board = open_board(out / "tensorboard", start + 1) if tensorboard and first else nullcontext()
    bar = tqdm(total=iterations, initial=start, unit="step", smoothing=0.05, disable=not first)
    with signals.remembered() as interrupted, board as writer, bar:
        curve = Curve(out, progress["history"], writer)
        for done in range(start + 1, iterations + 1):
            losses = processes.average(training.step(done - 1))
            _check(losses, done)
            bar.update()
            progress["iteration"] = done
            progress["pending"].append(losses)
            if done % _LOG_EVERY == 0 or done == iterations:
                means = _means(progress["pending"])
                progress["pending"] = []
                curve.add(done, means | training.rates())
                bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
            due = done % every == 0 or done == iterations
            if due and first:
                curve.add(done, training.evaluate())
                curve.show(done, training.pictures() if tensorboard else {})
                training.export(out)
            stop = processes.any_of(interrupted())
            if due or stop:
                _save(training, path, progress, record)
                if first:
                    curve.write()
                processes.wait()
            if stop:
                return done == iterations
    return True


def cosine_rate(iteration: int, iterations: int, *, warmup: int) -> float:
    """Return the factor of the learning rate: a linear rise, then half a cosine down to zero.

    Args:
        iteration: the step about to be taken, counted from 0.
        iterations: number of steps in all.
        warmup: number of steps of the rise.

    Source:
        Loshchilov and Hutter, SGDR: stochastic Gradient Descent with Warm Restarts, ICLR 2017,
        eq. 5, without restarts.
    """
    if iteration < warmup:
        return (iteration + 1) / warmup
    progress = (iteration - warmup) / max(1, iterations - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def check_settings(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Check that a checkpoint is of a training with the same settings.

    Args:
        ours: the settings of this training, by name.
        theirs: the settings in the checkpoint.

    Raises:
        InputError: some differ; the message names them with their earlier values.
    """
    if changed := [name for name in ours if ours[name] != theirs.get(name)]:
        was = ", ".join(f"{name} {theirs.get(name)}" for name in changed)
        raise InputError(f"the training to resume had other settings: {was}")


def _means(records: list[Figures]) -> Figures:
    return {name: sum(record[name] for record in records) / len(records) for name in records[0]}


def _check(losses: Figures, done: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise InputError(f"{name} became {value} at step {done}; try a lower learning rate")


def _save(training: Training, path: Path, progress: dict[str, Any], record: Record) -> None:
    # The generators, one row per process, are part of the state: a resumed training draws the same
    # batches.
    generators = processes.gather(torch.get_rng_state())
    place = _place(training)
    places = processes.gather(place) if len(place) else place[None]
    if processes.rank() == 0:
        state = {"training": training.state_dict(), "generator": generators, "record": record}
        state["places"] = places
        write_state(path, progress | state)


def _place(training: Training) -> Tensor:
    if training.sampler is None:
        return torch.empty(0, dtype=torch.int64)
    return training.sampler.place()


def _restore(training: Training, path: Path, record: Record) -> dict[str, Any]:
    if not path.exists():
        raise InputError(f"there is no checkpoint {path} to resume from")
    state = read_state(path)
    try:
        before = state.pop("record")
        places: Tensor = state.pop("places", torch.empty(0))  # not in all earlier checkpoints
        generators: Tensor = torch.atleast_2d(state.pop("generator"))  # type: ignore[no-untyped-call]
        progress = {name: state[name] for name in ("iteration", "pending", "history")}
        _check_progress(progress)
        check_same(before, record, str(path))
        training.load_state_dict(state["training"])
        if len(generators) != processes.count():
            raise InputError(
                f"{path} is of a training in {len(generators)} processes, not {processes.count()}"
            )
        if training.sampler is not None and len(_place(training)):
            training.sampler.go_to(places[processes.rank()])
        # A copy: torch 2.14 crashes on a view that does not start where its storage does.
        torch.set_rng_state(generators[processes.rank()].clone())
    except InputError:
        raise
    except Exception as error:  # parts of a malformed state raise almost anything
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{path} is not a checkpoint of this training: {type(error).__name__}: {reason}"
        ) from error
    return progress


def _check_progress(progress: dict[str, Any]) -> None:
    iteration = progress["iteration"]
    if type(iteration) is not int or iteration < 0:
        raise ValueError(f"iteration {iteration}")
    for name in ("pending", "history"):
        for figures in progress[name]:
            if not all(type(value) in (int, float) for value in figures.values()):
                raise ValueError(f"{name} should hold numbers")
