import os

# Small CPU convolutions collapse under OpenMP contention; this must precede the torch import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest


@pytest.fixture
def tiny_backbone(monkeypatch):
    """Builders, files and trainings of LWL have `TinyBackbone` in place of ResNet-50."""
    from lwl_tiny import TinyBackbone

    for name in ("CaffeResNet50", "ResNet50"):
        monkeypatch.setattr(f"innerloop_vos.lwl.builders.{name}", TinyBackbone)
