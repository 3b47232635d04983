"""Fixtures shared by all tests."""

import os
import shutil
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


# Chromium asks its maker's hosts at every start unless it is told not to.
CHROMIUM_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium: playwright's own, $RESOLUTE_CHROMIUM, or the one on the path."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        named = os.environ.get("RESOLUTE_CHROMIUM", "")
        found = named or (own if Path(own).is_file() else None) or shutil.which("chromium")
        if not found:
            pytest.skip("no Chromium: playwright install chromium, or set RESOLUTE_CHROMIUM")
        chromium = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()
