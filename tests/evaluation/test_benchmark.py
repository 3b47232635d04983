"""The benchmark script runs and its ways of scoring agree."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_benchmark_prints_equal_scores():
    sizes = ["--num-query", "60", "--num-gallery", "400", "--num-pids", "12", "--dim", "8"]
    output = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "evaluation.py"), *sizes],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    scores = re.findall(r"Rank-1 (\S+) %  mAP (\S+) %", output)
    assert len(scores) == 3  # ours, literal, drop-in
    assert len(set(scores)) == 1
    assert "times ours" in output
