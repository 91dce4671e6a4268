"""Where tests find data and weights, which are stored beside the repository."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the data folder ../shared beside the repository"
)
