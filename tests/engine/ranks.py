"""One rank of several: ``python ranks.py FOLDER`` under torchrun's variables.

Writes the gradients of one batch and the weights after a run; ``resume`` goes on with a run.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from engine.fakes import METADATA, TinyGan, TinyLoader, TinyMethod, run

from resolute.core.rng import Stream, Streams
from resolute.core.tensorfile import write_tensors
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import process_group
from resolute.engine.phases import set_modes, start_phases
from resolute.inference.model_file import save_model
from resolute.methods.config import OptimiserConfig

FROZEN = OptimiserConfig(learning_rate=0.01, frozen_epochs=1)


def seeded(rank):
    return Streams(3).torch_default(Stream.DROPOUT, 0, 0, rank)


def gradients(world):
    """Average gradients of both phases of the GAN and of the plain method."""
    found = {}
    batch = TinyLoader(rank=world.rank).batch(0, 0)
    for name, method in {"plain": TinyMethod(seed=world.rank), "gan": TinyGan()}.items():
        phases = start_phases(
            method,
            config=TrainConfig(device="cpu"),
            world=world,
            device=torch.device("cpu"),
            has_unused_parameters=False,
        )
        set_modes(method, phases, 0)
        for phase in phases:
            phase.select(0)
            with seeded(world.rank):
                losses = phase.step(batch, phase.phase.name)
            sum(losses.values()).backward()
            for key, parameter in method.named_parameters():
                if parameter.grad is not None:
                    found[f"{name}.{phase.phase.name}.{key}"] = parameter.grad.clone()
            method.zero_grad()
    return found


def main(folder, mode):
    with process_group("cpu") as world:
        if mode == "gradients":
            write_tensors(folder / f"gradients{world.rank}", gradients(world), {}, kind="gradients")

        def interrupt(epoch, step):
            # One rank alone hears the signal; both must stop after the same step.
            if mode == "interrupt" and world.rank == 1 and (epoch, step) == (1, 2):
                os.kill(os.getpid(), signal.SIGTERM)

        method, _ = run(
            folder / "run",
            method=TinyMethod(optimiser=FROZEN, seed=world.rank),
            loader=TinyLoader(rank=world.rank, hook=interrupt),
            world=world,
            resume="exact" if mode == "resume" else "no",
        )
        save_model(folder / f"{mode}{world.rank}.weights", method, METADATA)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
