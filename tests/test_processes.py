"""Training in two processes: equal to one with twice the batch, and resumed to the bit."""

import json
import sys
from pathlib import Path

import pytest
import torch
from davis_layout import write_davis
from lwl_tiny import TINY_SIZES
from parallel_training import SEED, STEPS, Regression
from torchrun import torchrun

from innerloop.errors import InputError
from innerloop_vos.lwl import lwl_resnet50, save_lwl
from innerloop_vos.training import processes
from innerloop_vos.training.loop import CHECKPOINT, run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("parallel")
    torchrun(Path(__file__).with_name("parallel_training.py"), out)
    return out


def weights(folder):
    return torch.load(folder / "weights.pt")


def test_two_processes_equal_one_with_twice_the_batch(folder, tmp_path):
    second = torch.Generator().manual_seed(SEED + 1)
    assert run(Regression(others=[second]), tmp_path, STEPS, every=4)
    one, two = weights(tmp_path), weights(folder / "whole")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)
    records = [json.loads((f / "curve.json").read_text()) for f in (tmp_path, folder / "whole")]
    losses = [next(r["train/loss"] for r in curve if "train/loss" in r) for curve in records]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_two_processes_resume_to_the_bit(folder):
    whole, parts = weights(folder / "whole"), weights(folder / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_first_process_alone_writes(folder):
    assert (folder / "whole" / "exports").read_text().split() == ["0", "0"]


def test_a_checkpoint_of_another_number_of_processes_is_refused(folder):
    with pytest.raises(InputError, match=f"{CHECKPOINT} is of a training in 2 processes, not 1"):
        run(Regression(), folder / "whole", STEPS + 1, every=1, resume=True)


@pytest.mark.slow
def test_the_command_trains_in_two_processes(tmp_path):
    davis = write_davis(tmp_path / "DAVIS", ["cat", "dog"])
    config, out, start = (tmp_path / name for name in ("run.toml", "out", "start.safetensors"))
    save_lwl(lwl_resnet50(**TINY_SIZES), start)
    config.write_text(
        f"stage = 1\ndavis = '{davis}'\nout = '{out}'\ndevice = 'cpu'\niterations = 2\nevery = 1\n"
        f"batch-size = 1\nheight = 48\nwidth = 64\ntest-frames = 1\ninit = '{start}'\n"
        "held-out = ['dog']\nheld-out-frames = 3\ntensorboard = true\n"
    )
    torchrun("-m", "innerloop_vos.cli", "train", "lwl", "--config", config)
    assert len(torch.load(out / CHECKPOINT)["generator"]) == 2
    measured = [r for r in json.loads((out / "curve.json").read_text()) if "held out/J" in r]
    assert [record["iteration"] for record in measured] == [1, 2]
    assert len(list((out / "tensorboard").iterdir())) == 1


def test_one_process_needs_no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with processes.connected(CPU) as device:
        assert device == CPU
        assert (processes.rank(), processes.count()) == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(InputError, match=r"started 2 processes.* pip install innerloop\[train\]"),
        processes.connected(CPU),
    ):
        pass


def test_one_device_for_several_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(InputError, match="device: cuda:1 is one for 2 processes; give cuda"),
        processes.connected(torch.device("cuda:1")),
    ):
        pass
