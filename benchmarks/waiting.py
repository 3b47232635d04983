"""How torch's threads wait: as by default and as `resolute` has them, on free and on busy cores.

    python benchmarks/waiting.py [--rounds 3] [--threads 2]

Each figure is a process of its own: training steps (64 images of 128x64) and the embedding of one
image (256x128) with OSNet x0.25. On busy cores one process per core counts beside it. Quote the
ratios. It says nothing where torch has another OpenMP than GNU's (macOS).
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

COUNTING = "while True: sum(range(100000))"


def measure(threads: int) -> None:
    """Print milliseconds of a training step and of one image in this process."""
    import torch

    from resolute.engine.memory import keep_freed_memory
    from resolute.models.backbone import build_backbone

    keep_freed_memory()
    torch.set_num_threads(threads)
    network = build_backbone("osnet_x0_25").to(memory_format=torch.channels_last)
    batch, image = torch.rand(64, 3, 128, 64), torch.rand(1, 3, 256, 128)
    step = median(lambda: network.train()(batch).square().sum().backward(), count=4)
    with torch.no_grad():
        network.eval()
        embed = median(lambda: network(image), count=20)
    print(step, embed)


def median(call: Callable[[], object], *, count: int) -> float:
    """Return the median milliseconds of some calls after one that warms up."""
    times = []
    for _ in range(count + 1):
        begin = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times[1:])


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep cores busy meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", COUNTING]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main() -> None:
    """Run both in turn, on free and on busy cores, and print the ratios."""
    from resolute.cli.main import wait_briefly

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.threads)
        return
    words = [sys.executable, __file__, "--one", "--threads", str(options.threads)]
    plain = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    brief = dict(plain)
    wait_briefly(brief)
    for name, processes in (("free cores", 0), ("busy cores", os.cpu_count() or 1)):
        ratios: list[tuple[float, ...]] = []
        with busy(processes):
            for _ in range(options.rounds):
                slow, fast = (
                    [float(word) for word in run(words, environment)]
                    for environment in (plain, brief)
                )
                ratios.append(tuple(a / b for a, b in zip(slow, fast, strict=True)))
        for what, found in zip(
            ("training step", "one image"), zip(*ratios, strict=True), strict=True
        ):
            print(
                f"{name}, {what}: briefly is {statistics.median(found):.2f} times as fast "
                f"({min(found):.2f}..{max(found):.2f})"
            )


def run(words: list[str], environment: dict[str, str]) -> list[str]:
    """Return the words that a process prints."""
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


if __name__ == "__main__":
    main()
