"""Training steps with freed memory kept in the process and given back to the kernel, in turn.

    python benchmarks/allocator.py [--rounds 3] [--steps 4] [--threads 2]

Each figure is a process of its own: forward and backward of OSNet (the learned-pooling variant) on
96 drawn inputs of 256x128, channels-last. Quote the ratio; single times depend on the machine.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch

from resolute.core.rng import Stream, Streams
from resolute.engine.memory import keep_freed_memory
from resolute.models.backbone import build_backbone


def measure(is_kept: str, steps: int, threads: int) -> None:
    """Print seconds per step and peak memory in GiB of this process."""
    if is_kept == "kept":
        keep_freed_memory()
    torch.set_num_threads(threads)
    network = build_backbone("osnet_gn_x0_5").to(memory_format=torch.channels_last).train()
    images = torch.rand(96, 3, 256, 128, generator=Streams(0).torch(Stream.TIES))
    times = []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        network(images).square().sum().backward()
        times.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(statistics.median(times[2:]), peak)  # two steps of warm-up


def main() -> None:
    """Run both kinds in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", choices=("kept", "given-back"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.steps, options.threads)
        return
    found: dict[str, list[tuple[float, float]]] = {"kept": [], "given-back": []}
    for _ in range(options.rounds):
        for name, rows in found.items():
            words = [sys.executable, __file__, "--one", name]
            words += ["--steps", str(options.steps), "--threads", str(options.threads)]
            out = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
            rows.append((float(out[0]), float(out[1])))
    for name, rows in found.items():
        seconds = statistics.median(row[0] for row in rows)
        print(f"{name:<12}{96 / seconds:7.1f} images/s, peak {max(r[1] for r in rows):.1f} GiB")
    pairs = zip(found["given-back"], found["kept"], strict=True)
    ratios = sorted(slow[0] / fast[0] for slow, fast in pairs)
    print(
        f"kept is {statistics.median(ratios):.2f} times as fast ({ratios[0]:.2f}..{ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
