"""Time a training step and its stages, one setting more at a time, in turn.

    python benchmarks/training.py [--method ftwa] [--rounds 2] [--steps 4] [--threads 2]

Each row is a process of its own on drawn people at 256x128, 64 given images per step (the twins
come on top), the recipe ``recommended`` from random weights: the arithmetic does not look at them.
``outside`` is the share of the step spent neither in a network nor in its gradients: waiting for
data, losses without gradient, the optimiser. Quote ratios; single times depend on the machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from resolute.core.config import override
from resolute.core.rng import Streams
from resolute.core.types import InputSpec
from resolute.data.benchmark import open_split
from resolute.data.cache import PixelStore
from resolute.data.loader import TrainLoader
from resolute.engine.memory import keep_freed_memory
from resolute.engine.optimiser import build_optimiser
from resolute.engine.precision import precision_of
from resolute.methods.catalogue import METHODS
from resolute.recipes.catalogue import find_recipe

# What each row adds to the row above it.
ROWS: dict[str, dict[str, Any]] = {
    "plain": {"train.channels_last": False, "train.amp": False},
    "+ freed memory kept": {},
    "+ channels-last": {"train.channels_last": True},
    "+ bf16": {"train.amp": True},
}
FREED_MEMORY_ROW = 1
STAGES = ("data", "E_H", "E_L", "E_ID", "T", "heads and losses", "backward", "optimiser")


class Clock:
    """Adds up seconds per stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        begin = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begin

    def watch(self, module: nn.Module | None, name: str) -> None:
        """Time every forward call of a part; the losses around it do not count it twice."""
        if module is None:
            return
        began: list[float] = []

        def stop(*_: object) -> None:
            spent = time.perf_counter() - began.pop()
            self.seconds[name] += spent
            self.seconds["heads and losses"] -= spent

        module.register_forward_pre_hook(lambda *_: began.append(time.perf_counter()))
        module.register_forward_hook(stop)


def measure(row: int, options: argparse.Namespace) -> None:
    """Print one row's seconds per stage and step as JSON."""
    names = list(ROWS)[: row + 1]
    if row >= FREED_MEMORY_ROW:
        keep_freed_memory()
    torch.set_num_threads(options.threads)
    config = find_recipe(options.method, "mlr-synthetic")
    config = override(config, {"data.synthetic.num_identities": 96})
    for name in names:
        config = override(config, ROWS[name])
    split = open_split(config.data)
    loader = TrainLoader(
        split.train,
        PixelStore.open(split.train),
        config=config.loader,
        spec=InputSpec(),
        streams=Streams(0),
    )
    blueprint = config.blueprint(num_identities=loader.num_identities, height_reference=128.0)
    method, _ = METHODS[config.name](blueprint, streams=Streams(0))
    method.train()
    if config.train.channels_last:
        method.to(memory_format=torch.channels_last)
    clock = Clock()
    clock.watch(method.network.encoder_hr, "E_H")
    clock.watch(method.network.encoder_lr, "E_L")
    clock.watch(method.network.encoder_id, "E_ID")
    clock.watch(getattr(method, "raft", None), "T")
    step = stepper(method, loader, clock, has_amp=config.train.amp)
    for _ in range(2):  # warm-up
        step()
    clock.seconds = dict.fromkeys(STAGES, 0.0)
    for _ in range(options.steps):
        step()
    print(json.dumps({name: spent / options.steps for name, spent in clock.seconds.items()}))


def stepper(method: Any, loader: TrainLoader, clock: Clock, *, has_amp: bool) -> Callable[[], None]:
    """Return a function that makes one step, as the engine does."""
    phase = method.phases[0]
    optimiser = build_optimiser(phase.optimiser, method.parameter_groups(phase))
    batches = (
        batch for epoch in range(1000) for batch in loader.batches(epoch, 0, torch.device("cpu"))
    )

    def step() -> None:
        with clock.stage("data"):
            batch = next(batches)
        with (
            clock.stage("heads and losses"),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_amp),
        ):
            loss = torch.stack([term.float() for term in method.losses(batch, phase).values()])
        with clock.stage("backward"):
            loss.sum().backward()
        with clock.stage("optimiser"):
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Run all rows in turn, a few rounds, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="ftwa")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        measure(options.row, options)
        return
    names = list(ROWS)
    if precision_of(torch.device("cpu"), is_mixed=True) != "bf16":
        names.remove("+ bf16")
        print("no row with bf16: this processor has no instructions for it")
    found: list[list[dict[str, float]]] = [[] for _ in names]
    for _ in range(options.rounds):
        for row in range(len(names)):
            words = [sys.executable, __file__, *sys.argv[1:], "--row", str(row)]
            out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            found[row].append(json.loads(out))
    print(f"{'':<22}{'images/s':>9}{'ratio':>7}{'outside':>9}   ms per step: {', '.join(STAGES)}")
    first = None
    for name, rows in zip(names, found, strict=True):
        stages = {stage: statistics.median(row[stage] for row in rows) for stage in STAGES}
        total = sum(stages.values())
        first = first or total
        outside = (stages["data"] + stages["optimiser"]) / total
        parts = " ".join(f"{1000 * stages[stage]:6.0f}" for stage in STAGES)
        print(f"{name:<22}{64 / total:9.1f}{first / total:7.2f}{outside:9.1%}   {parts}")


if __name__ == "__main__":
    main()
