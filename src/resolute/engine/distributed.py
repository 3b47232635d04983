"""Several processes as one run: torchrun's environment, one process group, one step module.

Every rank draws its own batches and computes its losses within them (batch statistics and mining
too); DDP averages the gradients. One process needs none of this and runs the same code.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resolute.core.errors import ConfigError
from resolute.core.images import Batch
from resolute.methods.contract import Method

Step = Callable[[Batch, str], dict[str, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where this process stands among those of one run.

    Attributes:
        rank: number of this process, 0..size-1; rank 0 writes all files.
        size: number of processes.
        local_rank: number of this process on its machine; chooses the GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size or self.local_rank < 0:
            raise ConfigError(
                f"world: expected 0 <= rank < size, got rank {self.rank} of {self.size} "
                f"(local rank {self.local_rank})"
            )

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0


def world() -> World:
    """Read RANK, WORLD_SIZE and LOCAL_RANK, as torchrun sets them; one process without them.

    Returns:
        This process's place.

    Raises:
        ConfigError: if the variables are set in part or are no numbers.
    """
    found = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    values = [int(text) for text in found.values() if text is not None and text.isdecimal()]
    if all(text is None for text in found.values()):
        return World()
    if len(values) < len(found):
        raise ConfigError(
            f"expected RANK, WORLD_SIZE and LOCAL_RANK as set by torchrun, got {found}"
        )
    rank, size, local_rank = values
    return World(rank=rank, size=size, local_rank=local_rank)


@contextmanager
def process_group(device: str) -> Iterator[World]:
    """Join the process group of a torchrun launch inside a block; do nothing for one process.

    The backend is nccl on CUDA devices and gloo elsewhere.

    Args:
        device: the setting ``train.device``.

    Yields:
        This process's place.
    """
    here = world()
    if here.size == 1:
        yield here
        return
    chosen = resolve_device(device, here)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield here
    finally:
        dist.destroy_process_group()


def resolve_device(name: str, world: World) -> torch.device:
    """Turn the setting ``train.device`` into a device that exists.

    Args:
        name: ``auto`` (the GPU of this local rank, else the CPU), ``cpu``, ``cuda``, ``cuda:1``
            or ``mps``. mps is used when asked for alone: its results are not tested here [ours].
        world: this process's place; ``cuda`` without a number takes its local rank.

    Returns:
        The device.

    Raises:
        ConfigError: if the name is unknown or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"train.device: expected auto, cpu, cuda, cuda:N or mps, got {name!r}"
        ) from None
    if device.type == "cuda":
        index = world.local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"train.device: cuda:{index} asked for, {torch.cuda.device_count()} GPUs found; "
                "set train.device to cpu or start fewer processes"
            )
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("train.device: mps asked for, none found; set train.device to cpu")
    if device.type not in ("cpu", "mps"):
        raise ConfigError(f"train.device: expected auto, cpu, cuda, cuda:N or mps, got {name!r}")
    return device


def device_name(device: torch.device) -> str:
    """Name a device in results: a GPU by its own name, for example ``NVIDIA H200``.

    Args:
        device: one that exists.
    """
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class StepModule(nn.Module):
    """A method's losses as a forward pass, because DDP acts on ``forward`` alone.

    Attributes:
        method: the method; its parameters are this module's.
        phases: the method's phases by name.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        self.phases = {phase.name: phase for phase in method.phases}

    def forward(self, batch: Batch, phase_name: str) -> dict[str, Tensor]:
        """Compute the loss terms of one batch.

        Args:
            batch: on the method's device.
            phase_name: name of one of the method's phases.

        Returns:
            Weighted loss terms by name.
        """
        return self.method.losses(batch, self.phases[phase_name])


def wrap_step(
    step: StepModule, world: World, device: torch.device, *, has_unused_parameters: bool
) -> nn.Module:
    """Wrap the step for one phase: DDP among several processes, itself for one.

    The parameters that require gradients at this moment are those that DDP averages: set them to
    the phase's own first. Buffers follow rank 0 at every forward pass.

    Args:
        step: the step.
        world: this process's place.
        device: where the method lives.
        has_unused_parameters: needed where a batch leaves some of a phase's parameters out of
            its losses; costs a walk through the graph at every step.

    Returns:
        A module with the same ``forward``.

    Raises:
        ConfigError: if there are several processes and no process group.
    """
    if world.size == 1:
        return step
    if not dist.is_initialized() or dist.get_world_size() != world.size:
        raise ConfigError(
            f"expected a process group of {world.size} processes; start with torchrun and call "
            "inside process_group()"
        )
    return DistributedDataParallel(
        step,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=has_unused_parameters,
    )


def agree(value: int, world: World, device: torch.device) -> int:
    """Take the largest value of any process; all processes must ask together.

    Args:
        value: this process's value.
        world: this process's place.
        device: where the process group works.

    Returns:
        The same answer in every process.
    """
    if world.size == 1:
        return value
    answer = torch.tensor(value, device=device)
    dist.all_reduce(answer, op=dist.ReduceOp.MAX)
    return int(answer)


def wait_for_all(world: World) -> None:
    """Return when every process has arrived here.

    Args:
        world: this process's place.
    """
    if world.size > 1:
        dist.barrier()
