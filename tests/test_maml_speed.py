"""The benchmark of meta-steps: every library finds the same gradient, at memory that is counted."""

from importlib import import_module

import pytest

for peer in ("higher", "learn2learn", "torchopt"):
    pytest.importorskip(peer, reason=f"compares with other libraries; {peer} is not installed")

maml_speed = import_module("maml_speed")


def test_every_library_takes_the_same_meta_step():
    setting = maml_speed.Setting(tasks=2, shots=2, queries=2, width=4, side=16, steps=2)
    found = maml_speed.measure(setting, rounds=2, compiled=False)
    assert list(found) == ["innerloop", "higher", "learn2learn", "TorchOpt", "torch.func"]
    assert 1 in [row.to_best for name, row in found.items() if name != "innerloop"]
    for row in found.values():
        assert row.error < 1e-9
        assert row.peak_mb > 0
        assert len(row.times) == 2
