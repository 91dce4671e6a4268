"""The benchmark of meta-steps: every library finds the same gradient, at memory that is counted."""

from importlib import import_module

import pytest
import torch

for peer in ("higher", "learn2learn", "torchopt"):
    pytest.importorskip(peer, reason=f"compares with other libraries; {peer} is not installed")

maml_speed = import_module("benchmarks.core.maml_speed")


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_library_takes_the_same_meta_step(threads):
    setting = maml_speed.Setting(tasks=2, shots=2, queries=2, width=4, side=16, steps=2)
    found = maml_speed.measure(setting, rounds=2, compiled=False)
    peers = ["higher", "learn2learn", "TorchOpt", "torch.func"]
    assert list(found) == ["innerloop", *peers] + ["innerloop, threads"] * (threads - 1)
    assert 1 in [row.to_best for name, row in found.items() if name in peers]
    for row in found.values():
        assert row.error < 1e-9
        assert row.peak_mb > 0
        assert len(row.times) == 2
