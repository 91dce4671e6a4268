"""Batches of tasks among several processes: as in one, whatever fails, stops or starts again."""

from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torchrun import started, torchrun

import innerloop as il
from innerloop._states import read_state
from innerloop.errors import InputError

SCRIPT = Path(__file__).with_name("task_processes.py")


def saved(folder, count):
    return [torch.load(folder / f"trained-{rank}.pt") for rank in range(count)]


def assert_same(one, other, **tolerances):
    for name, tensor in one[0].items():
        torch.testing.assert_close(tensor, other[0][name], **tolerances)
    assert one[1] == pytest.approx(other[1], rel=1e-12)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process trains."""
    folder = tmp_path_factory.mktemp("whole")
    torchrun(SCRIPT, "trained", folder, processes=1)
    return saved(folder, 1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_gradients_are_those_of_one_process(processes, tmp_path):
    torchrun(SCRIPT, "gradients", tmp_path, processes=processes)


@pytest.mark.slow
def test_one_that_fails_ends_all(tmp_path):
    torchrun(SCRIPT, "failures", tmp_path, processes=2)


@pytest.mark.slow
@pytest.mark.parametrize("before", [2, 3])
def test_another_number_of_processes_goes_on(whole, before, tmp_path):
    failed = started(SCRIPT, "killed", tmp_path, processes=before)
    assert failed.returncode != 0
    path = tmp_path / "checkpoint.pt"
    assert len(read_state(path)["history"]) == 3
    after = 5 - before
    torchrun(SCRIPT, "trained", tmp_path, processes=after)
    found = saved(tmp_path, after)
    for other in found[1:]:
        assert_same(found[0], other, rtol=0, atol=0)
    assert_same(found[0], whole, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_torchrun_starts_all_again_where_they_stopped(whole, tmp_path):
    options = ["--max-restarts", "1"]
    torchrun(SCRIPT, "restarted", tmp_path, processes=2, options=options)
    assert_same(saved(tmp_path, 2)[0], whole, rtol=1e-12, atol=1e-14)


def loss(meta, task):
    return (meta["w"] * task).square().sum()


def training(path, batches, value=1.0, size=2, **options):
    meta = {"w": torch.full((size,), value, dtype=torch.float64, requires_grad=True)}
    optimizer = torch.optim.Adam(meta.values(), 0.1)
    history = il.meta_train(loss, meta, batches, optimizer, checkpoint=path, **options)
    return meta["w"].detach(), history


def test_a_training_goes_on_from_its_checkpoint_to_the_bit(tmp_path):
    batches = [torch.randn(3, 2, dtype=torch.float64) for _ in range(5)]
    whole, losses = training(None, batches)
    path = tmp_path / "state.pt"
    training(path, batches[:3], every=2)
    assert len(read_state(path)["history"]) == 3  # the last step counts too
    found, history = training(path, batches, value=9.0, every=2)
    assert torch.equal(found, whole)
    assert history == losses
    assert training(path, batches, value=9.0)[1] == losses  # nothing is left to do


def test_checkpoints_of_others_are_refused(tmp_path):
    path, batches = tmp_path / "state.pt", [torch.ones(3, 2, dtype=torch.float64)] * 3
    training(path, batches)
    with pytest.raises(InputError, match=r"checkpoint: .* w has shape \(2,\), should have"):
        training(path, batches, size=1)
    with pytest.raises(InputError, match="of which `batches` yields 2"):
        training(path, batches[:2])
    with pytest.raises(ValueError, match="every: 0"):
        training(path, batches, every=0)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a checkpoint"):
        training(path, batches)
    with pytest.raises(InputError, match="cannot write"):
        training(tmp_path / "nowhere" / "state.pt", batches)


def test_processes_have_to_be_connected():
    assert not dist.is_initialized()
    with pytest.raises(RuntimeError, match="group: the processes are not connected"):
        il.task_gradients(loss, {"w": torch.ones(2)}, torch.ones(3, 2), group="world")
