"""Where tests find data and weights that are kept beside the repository, not in it."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the data folder ../shared beside the repository"
)
