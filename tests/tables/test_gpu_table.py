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


def test_a_set_is_parted_by_seed_trial_and_training(script):
    setting = "table2 --data mlr-viper --data.root '/data/a b' --trials 0-1 --seeds 0,2"
    jobs = script.jobs_of(3, f"{setting} --rows ftwa-const,baseline,ftwa --loader.twin_range 1,8")
    assert [job.name for job in jobs] == [
        f"3-{row}-t{trial}-s{seed}"
        for seed in (0, 2)
        for trial in (0, 1)
        for row in ("ftwa-const", "baseline")
    ]
    rest = ["--data", "mlr-viper", "--data.root", "/data/a b", "--loader.twin_range", "1,8"]
    place = ["--trials", "1", "--seeds", "0"]
    assert jobs[2].words == ["table2", "--rows", "ftwa-const,ftwa", *place, *rest]


def test_a_set_without_rows_is_its_whole_table(script):
    from resolute.tables.cells import TABLES

    for table, rows in TABLES.items():
        found = [job.words[2].split(",") for job in script.jobs_of(0, f"{table} --data caviar")]
        assert sorted(row for group in found for row in group) == sorted(rows)


def test_a_set_that_cannot_be_is_refused(script, capsys):
    with pytest.raises(SystemExit, match="--trials"):
        script.jobs_of(0, "table2 --trials 9-0")
    with pytest.raises(SystemExit):
        script.jobs_of(0, "table3")
    assert "table3" in capsys.readouterr().err


def test_without_a_gpu_the_way_out_is_named(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="--device cpu"):
        script.main(["--out", str(tmp_path)])


def test_without_mps_on_the_path_nothing_starts(script, monkeypatch):
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    with (
        pytest.raises(SystemExit, match="leave --mps out"),
        script.shared_chip({}, wanted=True),
    ):
        pass


@pytest.mark.slow
def test_everything_at_the_smallest_size(tmp_path):
    out = tmp_path / "gpu"
    words = [sys.executable, str(SCRIPT), "--smoke", "--device", "cpu", "--processes", "2"]
    words += ["--set", "table2 --data mlr-synthetic --rows baseline-twins,ftwa,ftwa-const"]
    words += ["--out", str(out), "--minutes", "8"]
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
    words += ["--set", "table2 --data mlr-synthetic --rows baseline"]
    words += ["--out", str(out), "--no-speed"]
    early = subprocess.run(
        [*words, "--minutes", "0.34"], capture_output=True, text=True, check=False
    )
    assert early.returncode == 2
    assert "time is up" in early.stdout
    assert not json.loads((out / "summary.json").read_text())["is_finished"]
    assert (out / "packed.tar.gz").exists()
    later = subprocess.run(words, capture_output=True, text=True, check=False)
    assert later.returncode == 0, later.stdout
