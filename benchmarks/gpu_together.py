"""Training steps per second of several processes at once on one GPU, with and without CUDA's MPS.

    python benchmarks/gpu_together.py --processes 1 4 8 16 --mps

Each process steps on a batch of its own that lies on the device already. What several processes
gain over one tells how many `scripts/gpu_table.py` should run at once.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parents[1] / "scripts"), str(HERE.parent)]

READY = "ready"


def step_for(options: argparse.Namespace) -> None:
    """Build a method, say so, wait for a line, and count steps for as long as asked."""
    import gpu
    import torch

    from resolute.core.config import override
    from resolute.recipes.catalogue import find_recipe

    torch.set_num_threads(1)
    device = torch.device(options.device)
    config = override(
        find_recipe(options.method, "mlr-synthetic", "recommended"),
        {
            "model.backbone": options.backbone,
            "model.height": options.height,
            "model.width": options.width,
            "data.synthetic.num_identities": 80,
        },
    )
    batch, run = gpu.drawn_batch(config, device), gpu.phase_of(config, device)
    for _ in range(gpu.WARM_UP):
        run.update(batch, epoch=0, factor=1e-3)
    gpu.wait(device)
    print(READY, flush=True)
    sys.stdin.readline()
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < options.seconds:
        run.update(batch, epoch=0, factor=1e-3)
        gpu.wait(device)  # as a run does when it reads its losses
        steps += 1
    print(json.dumps(steps / (time.perf_counter() - begin)), flush=True)


def together(count: int, words: Sequence[str], environment: dict[str, str]) -> float:
    """Start some processes, let them step at the same time, and add up their steps per second.

    Raises:
        SystemExit: if one does not start.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE), "--step", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(count)
    ]
    for process in processes:
        if process.stdout.readline().strip() != READY:
            raise SystemExit("a process did not start; its message stands above")
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(json.loads(process.communicate()[0]) for process in processes)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--processes", type=int, nargs="+", default=[1, 4, 8, 16])
    add("--mps", action="store_true", help="measure each number with MPS, too")
    add("--method", default="ftwa")
    add("--backbone", default="osnet_gn_x0_5")
    add("--height", type=int, default=256)
    add("--width", type=int, default=128)
    add("--device", default="cuda")
    add("--seconds", type=float, default=5.0)
    add("--step", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.step:
        step_for(options)
        return
    from gpu_table import shared_chip

    passed = [
        *("--method", options.method, "--backbone", options.backbone, "--device", options.device),
        *("--height", str(options.height), "--width", str(options.width)),
        *("--seconds", str(options.seconds)),
    ]
    plain = {**os.environ, "OMP_NUM_THREADS": "1"}
    print(f"{options.method}, {options.backbone}: steps per second")
    for has_mps in (False, True) if options.mps else (False,):
        with shared_chip(plain, wanted=has_mps) as environment:
            for count in options.processes:
                found = together(count, passed, environment)
                print(f"{count:3d} at once{', MPS' * has_mps}: {found:.2f}", flush=True)


if __name__ == "__main__":
    main()
