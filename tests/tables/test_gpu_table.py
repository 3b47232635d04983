"""The one command for a GPU: its jobs, and a whole run at the smallest size on the CPU."""

import importlib.util
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_table.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_table"] = module
    spec.loader.exec_module(module)
    return module


def test_rows_that_share_weights_share_a_process(script):
    jobs = script.jobs_of("mlr-viper=/data/a=b,trials=0-1,seeds=0;2", "baseline,ftwa", 16)
    assert len(jobs) == 2 * 2 * 2
    assert {(j.trial, j.seed) for j in jobs} == {("0", "0"), ("0", "2"), ("1", "0"), ("1", "2")}
    assert {j.rows for j in jobs} == {"baseline", "ftwa,ftwa-const"}
    assert {j.root for j in jobs} == {"/data/a=b"}
    assert len({j.name for j in jobs}) == len(jobs)


def test_many_trials_need_no_process_per_row(script):
    jobs = script.jobs_of("mlr-viper=/data,trials=0-9", "baseline,ftwa", 8)
    assert [j.trial for j in jobs] == [str(n) for n in range(10)]
    assert {j.rows for j in jobs} == {"baseline,ftwa,ftwa-const"}
    with pytest.raises(SystemExit, match="unknown trial"):
        script.jobs_of("mlr-viper=/data,trial=0", "ftwa", 8)


def test_every_row_of_the_table_is_asked_for(script):
    from resolute.tables.cells import TABLES

    asked = {*script.ROWS.split(","), *script.WITH.values()}
    assert asked == set(TABLES["table2"])


@pytest.mark.slow
def test_everything_at_the_smallest_size(tmp_path):
    out = tmp_path / "gpu"
    words = [sys.executable, str(SCRIPT), "--smoke", "--device", "cpu", "--processes", "2"]
    words += ["--rows", "baseline-twins,ftwa", "--out", str(out), "--minutes", "8"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    logs = "\n".join(path.read_text() for path in (out / "logs").glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    summary = json.loads((out / "summary.json").read_text())
    assert summary["is_finished"]
    assert set(summary["exit_codes"].values()) == {0}
    speed = json.loads((out / "gpu.json").read_text())
    assert speed["run"]["same_bits"]  # on a CPU
    assert speed["float32"]["gflop_per_step"] > 0
    with tarfile.open(out / "packed.tar.gz") as archive:
        names = archive.getnames()
    assert sum(name.endswith(".json") and name.startswith("results/") for name in names) == 3
    assert "results.md" in names
    # The same command again finds everything done.
    begun = [path.stat().st_mtime_ns for path in sorted((out / "results").rglob("*.json"))]
    assert subprocess.run([*words, "--no-speed"], capture_output=True, check=False).returncode == 0
    assert begun == [p.stat().st_mtime_ns for p in sorted((out / "results").rglob("*.json"))]


@pytest.mark.slow
def test_when_the_time_is_up_cells_are_interrupted_and_go_on(tmp_path):
    out = tmp_path / "gpu"
    words = [sys.executable, str(SCRIPT), "--smoke", "--device", "cpu", "--processes", "1"]
    words += ["--rows", "baseline", "--out", str(out), "--no-speed"]
    early = subprocess.run(
        [*words, "--minutes", "0.34"], capture_output=True, text=True, check=False
    )
    assert early.returncode == 2
    assert "time is up" in early.stdout
    assert not json.loads((out / "summary.json").read_text())["is_finished"]
    assert (out / "packed.tar.gz").exists()
    later = subprocess.run(words, capture_output=True, text=True, check=False)
    assert later.returncode == 0, later.stdout
