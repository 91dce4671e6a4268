"""The loop of a training: exact resumption, interruption, curve and refusals."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from innerloop._states import write_state
from innerloop.errors import InputError
from innerloop_vos.training.loop import CHECKPOINT, Figures, Stateful, Training, cosine_rate, run


class Walk(Training):
    """A random walk, which depends on every earlier draw of the generator."""

    def __init__(self, interrupt_at: int | None = None, broken_at: int | None = None) -> None:
        torch.manual_seed(3)
        self.state = nn.ParameterDict({"place": torch.zeros(2)}).requires_grad_(False)
        self.interrupt_at, self.broken_at = interrupt_at, broken_at

    @property
    def place(self) -> Tensor:
        return self.state["place"]

    def step(self, iteration: int) -> Figures:
        self.place.copy_(0.9 * self.place + torch.randn(2))
        if iteration == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        loss = self.place.norm().item()
        return {"train/loss": float("nan") if iteration == self.broken_at else loss}

    def rates(self) -> Figures:
        return {"rate/walk": 0.9}

    def pictures(self) -> dict[str, Tensor]:
        return {"place": self.place.sigmoid().expand(3, 4, 2)}

    def evaluate(self) -> Figures:
        return {"held out/loss": self.place.square().sum().item()}

    def export(self, folder: Path) -> None:
        torch.save(self.place, folder / "place.pt")

    def configuration(self) -> dict[str, dict[str, Any]]:
        return {}

    def parts(self) -> dict[str, Stateful]:
        return {"state": self.state}


def history(folder: Path) -> list[Figures]:
    records: list[Figures] = json.loads((folder / "curve.json").read_text())
    return records


def test_an_interrupted_training_resumes_to_the_same_end(tmp_path: Path) -> None:
    assert run(Walk(), tmp_path / "whole", 130, every=40)
    handler = signal.getsignal(signal.SIGINT)
    for interrupt_at in (16, 77):
        done = run(Walk(interrupt_at), tmp_path / "parts", 130, every=40, resume=interrupt_at > 16)
        assert not done
        assert signal.getsignal(signal.SIGINT) is handler
    assert run(Walk(), tmp_path / "parts", 130, every=40, resume=True)
    places = [torch.load(tmp_path / name / "place.pt") for name in ("whole", "parts")]
    assert torch.equal(*places)
    # Interruptions leave no trace in the curve either: means are over the same steps.
    assert history(tmp_path / "whole") == history(tmp_path / "parts")


def test_the_curve_holds_means_of_losses_and_figures(tmp_path: Path) -> None:
    run(Walk(), tmp_path, 60, every=30)
    records = history(tmp_path)
    train = [r["iteration"] for r in records if "train/loss" in r]
    held_out = [r["iteration"] for r in records if "held out/loss" in r]
    assert train == [50, 60]
    assert held_out == [30, 60]
    walk = Walk()
    losses = [walk.step(iteration)["train/loss"] for iteration in range(50)]
    assert records[1]["train/loss"] == pytest.approx(sum(losses) / 50)
    assert [r["iteration"] for r in records if r.get("rate/walk") == 0.9] == [50, 60]
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_nothing_but_the_products_is_left_in_the_folder(tmp_path: Path) -> None:
    run(Walk(), tmp_path, 3, every=2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {CHECKPOINT, "curve.json", "curve.png", "place.pt"}


def test_tensorboard_gets_the_curve_and_the_pictures(tmp_path: Path) -> None:
    run(Walk(), tmp_path, 60, every=30, tensorboard=True)
    # What is resumed takes the place of what came after the checkpoint.
    run(Walk(), tmp_path, 120, every=30, resume=True, tensorboard=True)
    log = EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    records = [record for record in history(tmp_path) if "held out/loss" in record]
    scalars = {event.step: event.value for event in log.Scalars("held out/loss")}
    assert scalars == pytest.approx({r["iteration"]: r["held out/loss"] for r in records})
    assert [event.step for event in log.Scalars("rate/walk")] == [50, 60, 100, 120]
    pictures = log.Images("place")
    assert [event.step for event in pictures] == [30, 60, 90, 120]
    assert (pictures[0].width, pictures[0].height) == (2, 4)


def test_tensorboard_is_needed_only_where_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run(Walk(), tmp_path / "without", 2, every=2)
    with pytest.raises(InputError, match=r"not installed: pip install innerloop\[train\]"):
        run(Walk(), tmp_path / "with", 2, every=2, tensorboard=True)


def test_a_training_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    run(Walk(), tmp_path, 2, every=2)
    with pytest.raises(InputError, match=r"checkpoint\.pt exists"):
        run(Walk(), tmp_path, 2, every=2)


def test_checkpoints_cannot_be_zero_steps_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every should be positive, got 0"):
        run(Walk(), tmp_path, 2, every=0)


def test_resuming_needs_a_readable_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        run(Walk(), tmp_path, 2, every=2, resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"checkpoint\.pt is not a checkpoint"):
        run(Walk(), tmp_path, 2, every=2, resume=True)
    torch.save({"iteration": 1}, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match="is not a checkpoint as this version writes it"):
        run(Walk(), tmp_path, 2, every=2, resume=True)
    write_state(tmp_path / CHECKPOINT, {"iteration": 1})
    with pytest.raises(InputError, match="is not a checkpoint of this training"):
        run(Walk(), tmp_path, 2, every=2, resume=True)


def test_a_loss_that_is_not_a_number_stops_the_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train/loss became nan at step 6"):
        run(Walk(broken_at=5), tmp_path, 20, every=4)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["iteration"] == 4


def test_cosine_rate_rises_linearly_and_falls_to_zero() -> None:
    rates = [cosine_rate(i, 110, warmup=10) for i in range(110)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)
