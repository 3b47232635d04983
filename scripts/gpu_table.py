r"""Fill whole tables on one GPU in one go, within a time limit, and pack what came of it.

    python scripts/gpu_table.py --minutes 9 --out gpu --model.weights osnet.safetensors \
        --set "table2 --data mlr-viper --data.root /data/viper --trials 0-9" \
        --set "table2 --data mlr-cuhk03-p1 --data.root /data/cuhk03 --seeds 0-2"

A set is what follows `resolute table`; settings outside of sets hold for all of them. First speed,
memory and resumption of ResNet-50 at the paper's recipe (benchmarks/gpu.py), alone on the chip;
then the cells, several processes at once, the first set first. What is not finished when the time
is up is interrupted and leaves a checkpoint: the same command goes on. The folder then holds
``gpu.json``, ``results/``, ``results.md``, ``logs/`` and all of them in ``packed.tar.gz``.
It runs from a checkout, installed or not: torch, torchvision, numpy, pillow, safetensors and rich
will do.
"""

import argparse
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from resolute.cli.table import counts  # noqa: E402  # not installed: found beside this script
from resolute.core.errors import ConfigError  # noqa: E402
from resolute.tables.cells import TABLES, trained_row  # noqa: E402

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
    """One process: one training of a set, and what is scored from its weights.

    Attributes:
        name: of its log.
        words: what follows `resolute table`.
    """

    name: str
    words: Sequence[str]


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


def jobs_of(number: int, setting: str) -> list[Job]:
    """Part one ``--set`` into processes: by seed, trial and row.

    Rows that are scored from the weights of another one go where that row goes.

    Raises:
        SystemExit: if it names no table, or trials and seeds that are none.
    """
    parser = argparse.ArgumentParser(prog=f"--set {setting}", add_help=False, allow_abbrev=False)
    parser.add_argument("table", choices=sorted(TABLES))
    parser.add_argument("--rows", default="")
    parser.add_argument("--trials", default="0")
    parser.add_argument("--seeds", default="0")
    asked, rest = parser.parse_known_args(shlex.split(setting))
    try:
        trials, seeds = counts("--trials", asked.trials), counts("--seeds", asked.seeds)
    except ConfigError as error:
        raise SystemExit(f"--set {setting}: {error}") from None
    together: dict[str, list[str]] = {}
    for row in asked.rows.split(",") if asked.rows else TABLES[asked.table]:
        together.setdefault(trained_row(row), []).append(row)
    return [
        Job(
            name=f"{number}-{rows[0]}-t{trial}-s{seed}",
            words=[
                *(asked.table, "--rows", ",".join(rows)),
                *("--trials", str(trial), "--seeds", str(seed)),
                *rest,
            ],
        )
        for seed in seeds
        for trial in trials
        for rows in together.values()
    ]


def command_of(job: Job, options: argparse.Namespace) -> list[str]:
    """Word the process of a job; what its set says comes last and holds."""
    out = options.out
    words = [sys.executable, "-m", "resolute", "table", "--quiet"]
    words += ["--out", str(out / "results"), "--runs", str(out / "runs")]
    words += ["--data.cache", str(out / "cache"), "--train.device", options.device]
    words += ["--train.threads", str(options.threads)]
    words += SMOKE if options.smoke else []
    return [*words, *options.settings, *job.words]


def num_processes(options: argparse.Namespace) -> int:
    """Take as many processes as cores and the memory of the chip carry.

    Raises:
        SystemExit: if there is no GPU.
    """
    if options.processes:
        return int(options.processes)
    by_cores = max(1, (os.cpu_count() or 1) // max(1, options.threads))
    if options.device != "cuda":
        return by_cores
    if shutil.which("nvidia-smi") is None:
        raise SystemExit("no GPU (nvidia-smi is not on the path): try it with --device cpu")
    words = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    free = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]
    return max(1, min(by_cores, int(free) // MIB_PER_CELL))


def run_all(
    pool: Pool, jobs: Sequence[tuple[str, Sequence[str]]], options: argparse.Namespace
) -> bool:
    """Run jobs in order, as many at once as the pool holds; tell whether the time sufficed."""
    left = list(jobs)
    deadline = BEGIN + 60 * options.minutes - GRACE_S
    try:
        while left or pool.running:
            while left and len(pool.running) < pool.size:
                pool.start(*left.pop(0))
            time.sleep(0.2)
            pool.collect()
            if time.perf_counter() > deadline:
                _LOG.warning("time is up: %d running, %d not begun", len(pool.running), len(left))
                return False
        return True
    finally:
        pool.stop()


@contextmanager
def shared_chip(environment: Mapping[str, str], *, wanted: bool) -> Iterator[dict[str, str]]:
    """Let several processes compute at the same time: without MPS the chip takes them in turn.

    Yields:
        The environment that their processes need.

    Raises:
        SystemExit: if it is wanted and this machine has none.
    """
    if not wanted:
        yield dict(environment)
        return
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        raise SystemExit("--mps: nvidia-cuda-mps-control is not on the path; leave --mps out")
    with tempfile.TemporaryDirectory(prefix="mps") as folder:
        where = dict.fromkeys(("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"), folder)
        inside = {**environment, **where}
        subprocess.run([control, "-d"], env=inside, check=True)
        try:
            yield inside
        finally:
            subprocess.run([control], input=b"quit\n", env=inside, check=False)


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
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="WORDS", help="what follows resolute table")
    add("--out", type=Path, default=Path("gpu"), help="folder (gpu)")
    add("--minutes", type=float, default=9.0, help="time limit for everything (9)")
    add("--processes", type=int, default=0, help="at once (default: by cores and memory)")
    add("--threads", type=int, default=1, help="CPU threads per process (1)")
    add("--device", default="cuda")
    add("--no-speed", action="store_true", help="leave benchmarks/gpu.py out")
    add("--mps", action="store_true", help="let processes compute at the same time (CUDA MPS)")
    add("--smoke", action="store_true", help="smallest drawn data, to see that everything works")
    options, settings = parser.parse_known_args(words)
    options.settings = settings
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    options.out.mkdir(parents=True, exist_ok=True)
    logs = options.out / "logs"
    logs.mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    threads = str(options.threads)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads}
    pool = Pool(size=num_processes(options), logs=logs, environment=environment)
    sets = options.set or (["table2 --data mlr-synthetic"] if options.smoke else [])
    jobs = [job for number, setting in enumerate(sets) for job in jobs_of(number, setting)]
    _LOG.info("%d jobs, %d at once", len(jobs), pool.size)
    if not options.no_speed:
        more = SMOKE_SPEED if options.smoke else []
        speed = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", options.device]
        speed += ["--out", str(options.out / "gpu.json"), *more]
        run_all(pool, [("gpu", speed)], options)
    with shared_chip(environment, wanted=options.mps) as pool.environment:
        named = [(job.name, command_of(job, options)) for job in jobs]
        is_finished = run_all(pool, named, options)
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
