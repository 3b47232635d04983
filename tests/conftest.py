"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and weights: $RESOLUTE_SHARED, or ``shared`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RESOLUTE_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip("no real data: set RESOLUTE_SHARED to a folder with data/ and weights/")
    return folder
