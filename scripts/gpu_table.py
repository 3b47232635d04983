r"""Fill whole tables on one GPU in one go, within a time limit, and pack what came of it.

    python scripts/gpu_table.py --set mlr-viper=/data/viper,trials=0-9 \
        --set mlr-cuhk03-p1=/data/cuhk03,seeds=0-2 --weights osnet.safetensors --out gpu --minutes 9

First speed, memory and resumption of ResNet-50 at the paper's recipe (benchmarks/gpu.py), alone on
the chip; then the cells, several processes at once, the first set first. What is not finished when
the time is up is interrupted and leaves a checkpoint: the same command goes on. The folder then
holds ``gpu.json``, ``results/``, ``results.md``, ``logs/`` and all of them in ``packed.tar.gz``.
It runs from a checkout, installed or not: torch, numpy, pillow, safetensors and rich will do.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = "baseline,baseline-twins,ftwa_b,ftwa_b-twins,ftwa_r-not,ftwa_r,ftwa,ftwa-plus"
# Scored from the weights of another row: it goes where that row goes.
WITH = {"ftwa": "ftwa-const"}
GRACE_S = 20.0  # from the first signal to the end of a process: a step and a checkpoint
MIB_PER_CELL = 6 * 1024
SMOKE = [
    *("--data.synthetic.num_identities", "8", "--data.synthetic.images_per_camera", "1"),
    *("--model.height", "64", "--model.width", "32", "--train.epochs", "1"),
    *("--loader.batch_size", "8", "--loader.num_instances", "1"),
]
SMOKE_SPEED = ["--backbone", "resnet18", "--height", "64", "--width", "32", "--steps", "1"]

_LOG = logging.getLogger("gpu_table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One process: some rows of one data set, trial and seed."""

    data: str
    root: str
    trial: str
    seed: str
    rows: str

    @property
    def name(self) -> str:
        """Name of its log."""
        return f"{self.data}-t{self.trial}-s{self.seed}-{self.rows.partition(',')[0]}"


@dataclass(slots=True, kw_only=True)
class Pool:
    """Processes at work, each with its log."""

    size: int
    logs: Path
    environment: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    def start(self, name: str, words: Sequence[str]) -> None:
        """Start a process in a session of its own, so that one Ctrl-C is passed on once."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                list(words),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
            )

    def collect(self) -> None:
        """Note which processes have ended."""
        for name, process in list(self.running.items()):
            code = process.poll()
            if code is not None:
                del self.running[name]
                self.codes[name] = code
                _LOG.info("%6.1f s  %s: exit code %d", time.perf_counter() - BEGIN, name, code)

    def stop(self) -> None:
        """Interrupt what still runs; end what does not listen."""
        for process in self.running.values():
            process.send_signal(signal.SIGINT)
        limit = time.perf_counter() + GRACE_S
        while self.running and time.perf_counter() < limit:
            time.sleep(0.2)
            self.collect()
        for process in self.running.values():
            process.kill()
            process.wait()
        self.collect()


BEGIN = time.perf_counter()


def jobs_of(setting: str, rows: str, num_processes: int) -> list[Job]:
    """Part one ``--set`` into processes: by trial and seed, and by row where these are few.

    Raises:
        SystemExit: if it names an option that is none.
    """
    where, *options = setting.split(",")
    data, _, root = where.partition("=")
    asked = {"trials": "0", "seeds": "0", **dict(o.split("=", 1) for o in options)}
    unknown = asked.keys() - {"trials", "seeds"}
    if unknown:
        raise SystemExit(f"--set {setting}: unknown {', '.join(sorted(unknown))}")
    places = [(t, s) for s in numbers(asked["seeds"]) for t in numbers(asked["trials"])]
    names = [row for row in rows.split(",") if row]
    groups = [",".join(n for n in (row, WITH.get(row)) if n) for row in names]
    if len(places) >= num_processes:
        groups = [",".join(groups)]
    return [
        Job(data=data, root=root, trial=t, seed=s, rows=group)
        for t, s in places
        for group in groups
    ]


def numbers(text: str) -> list[str]:
    """Read ``0-4`` or ``0;2`` as texts."""
    found: list[str] = []
    for part in text.split(";"):
        first, is_range, last = part.partition("-")
        found += [str(n) for n in range(int(first), int(last if is_range else first) + 1)]
    return found


def command_of(job: Job, options: argparse.Namespace) -> list[str]:
    """Word the process of a job."""
    words = [sys.executable, "-m", "resolute", "table", "table2", "--data", job.data]
    words += ["--rows", job.rows, "--trials", job.trial, "--seeds", job.seed, "--quiet"]
    words += ["--out", str(options.out / "results"), "--runs", str(options.out / "runs")]
    words += ["--data.cache", str(options.out / "cache"), "--train.device", options.device]
    words += ["--train.threads", str(options.threads)]
    words += ["--data.root", job.root] if job.root else []
    words += ["--model.weights", options.weights] if options.weights else []
    return [*words, *(SMOKE if options.smoke else options.settings)]


def num_processes(options: argparse.Namespace) -> int:
    """Take as many processes as cores and the memory of the chip carry."""
    if options.processes:
        return int(options.processes)
    by_cores = max(1, (os.cpu_count() or 1) // max(1, options.threads))
    if options.device != "cuda":
        return by_cores
    words = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    free = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]
    return max(1, min(by_cores, int(free) // MIB_PER_CELL))


def run_all(pool: Pool, jobs: Sequence[Job], options: argparse.Namespace) -> bool:
    """Run jobs in order, as many at once as the pool holds; tell whether the time sufficed."""
    left = list(jobs)
    deadline = BEGIN + 60 * options.minutes - GRACE_S
    try:
        while left or pool.running:
            while left and len(pool.running) < pool.size:
                job = left.pop(0)
                pool.start(job.name, command_of(job, options))
            time.sleep(0.2)
            pool.collect()
            if time.perf_counter() > deadline:
                _LOG.warning("time is up: %d running, %d not begun", len(pool.running), len(left))
                return False
        return True
    finally:
        pool.stop()


def pack(out: Path) -> Path:
    """Put everything but weights and pixels into one file."""
    path = out / "packed.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("summary.json", "gpu.json", "results.md", "results", "logs"):
            if (out / name).exists():
                archive.add(out / name, arcname=name)
    return path


def main(words: Sequence[str] | None = None) -> int:
    """Measure, fill, pack; 0 if every cell is finished."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="NAME=ROOT[,trials=0-9][,seeds=0-2]")
    add("--weights", default="", help="start weights (default: random)")
    add("--rows", default=ROWS, help=f"methods (default: {ROWS})")
    add("--out", type=Path, default=Path("gpu"), help="folder (gpu)")
    add("--minutes", type=float, default=9.0, help="time limit for everything (9)")
    add("--processes", type=int, default=0, help="at once (default: by cores and memory)")
    add("--threads", type=int, default=1, help="CPU threads per process (1)")
    add("--device", default="cuda")
    add("--no-speed", action="store_true", help="leave benchmarks/gpu.py out")
    add("--smoke", action="store_true", help="smallest drawn data, to see that everything works")
    options, options.settings = parser.parse_known_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    options.out.mkdir(parents=True, exist_ok=True)
    logs = options.out / "logs"
    logs.mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    threads = str(options.threads)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads}
    pool = Pool(size=num_processes(options), logs=logs, environment=environment)
    sets = options.set or (["mlr-synthetic="] if options.smoke else [])
    jobs = [job for setting in sets for job in jobs_of(setting, options.rows, pool.size)]
    _LOG.info("%d jobs, %d at once", len(jobs), pool.size)
    if not options.no_speed:
        more = SMOKE_SPEED if options.smoke else []
        speed = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", options.device]
        pool.start("gpu", [*speed, "--out", str(options.out / "gpu.json"), *more])
        pool.running["gpu"].wait()
        pool.collect()
    is_finished = run_all(pool, jobs, options)
    words_of_page = [sys.executable, "-m", "resolute", "results"]
    words_of_page += ["--folder", str(options.out / "results")]
    words_of_page += ["--out", str(options.out / "results.md")]
    subprocess.run(words_of_page, env=environment, check=False)
    summary = {
        "seconds": round(time.perf_counter() - BEGIN, 1),
        "processes": pool.size,
        "is_finished": is_finished,
        "exit_codes": pool.codes,
    }
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    _LOG.info("%s: %s", pack(options.out), json.dumps(summary))
    return 0 if is_finished and not any(pool.codes.values()) else 2


if __name__ == "__main__":
    sys.exit(main())
