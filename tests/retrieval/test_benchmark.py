"""The benchmark script runs, checks its answers, and prints ratios to the matrix product."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_benchmark_prints_ratios():
    sizes = ["--images", "3000", "--dim", "16", "--queries", "5", "--turns", "1", "--faiss"]
    output = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "search.py"), *sizes],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.count("are those of a float64 search over all pairs") == 2
    assert len(re.findall(r"ms +[0-9.]+ x", output)) == 8
