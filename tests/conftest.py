"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

# Tiny networks on two busy cores: threads that wait for each other make them twenty times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and weights: $RESOLUTE_SHARED, or ``shared`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RESOLUTE_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip("no real data: set RESOLUTE_SHARED to a folder with data/ and weights/")
    return folder
