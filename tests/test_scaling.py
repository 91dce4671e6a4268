"""Many processes: the program of the documentation, and the benchmark's message and model."""

import re
import socket
from pathlib import Path

import pytest
from torch import distributed as dist

from benchmarks.core import processes

PAGE = Path(__file__).parents[1] / "docs/scaling.md"


@pytest.fixture
def alone(monkeypatch):
    """The environment of the only process of torchrun."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_the_program_of_the_page_runs_and_learns(alone, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(program, str(PAGE), "exec"), {})
    before, after = map(float, re.findall(r"[\d.]+(?= before| after)", capsys.readouterr().out))
    assert after < before
    assert (tmp_path / "training.pt").is_file()


def test_a_step_sends_one_message_of_gradient_losses_and_failures(alone):
    dist.init_process_group("gloo")
    setting = processes.Setting(tasks=3, shots=1, queries=1, width=4, side=16, steps=1)
    clock, cpu, message = processes.turn(setting, setting.batch(), dist.group.WORLD)
    parameters = sum(p.numel() for p in setting.net().parameters())
    assert message == 4 * (parameters + setting.tasks + 1)
    assert len(clock) == len(cpu) == processes.STEPS - 1
    (row,) = processes.measure(setting, rounds=1)
    assert row.processes == 1
    assert row.cpu_seconds > 0
    assert row.seconds > 0
    assert row.message == 0  # alone, nothing is sent


def test_the_ring_costs_what_its_paper_says():
    """2 (n - 1) messages of an nth: in all, 2 (n - 1) / n of the bytes leave each process."""
    assert processes.Network(0.0, 1e3).all_reduce(8, 4000) == pytest.approx(2 * 7 / 8 * 4)
    assert processes.Network(0.5, 1e30).all_reduce(8, 4000) == pytest.approx(7)
    assert processes.Network(0.5, 1e3).all_reduce(1, 4000) == 0


def test_the_model_loses_what_the_exchange_takes():
    rows = processes.modelled(per_task=1.0, message=1000)
    for row in rows:
        compute = processes.MODELLED_TASKS / row["processes"]
        assert row["seconds"] == pytest.approx(compute + row["exchange"])
        assert row["efficiency"] == pytest.approx(compute / row["seconds"])
