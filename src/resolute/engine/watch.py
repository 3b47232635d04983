"""How strongly each loss term pulls at one part of a method."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from resolute.core.errors import ConfigError
from resolute.core.images import Batch
from resolute.methods.contract import Method, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What gradient norms a training run logs.

    Attributes:
        parts: submodules of the method by the name to log them under.
        every: epochs between two measurements, each on the first batch of its epoch.
    """

    parts: Mapping[str, nn.Module]
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"watch.every: expected >= 1, got {self.every}")


def gradient_norms(
    method: Method, batch: Batch, phase: Phase, module: nn.Module
) -> dict[str, float]:
    """Compute the L2 norm of each loss term's gradient at one submodule.

    With weights 3.0, 1.0 and 0.1 a term may leave a part nearly inert: this shows it (for FTWA, at
    T, the term of eq. 2 against the others) [ours]. Nothing is left behind: no gradients, and
    running statistics as they were.

    Args:
        method: the method, in training mode.
        batch: on the method's device.
        phase: whose losses.
        module: a part of the method with parameters that train in this phase.

    Returns:
        Norms by the name of the loss term; 0 where a term does not reach the part.

    Raises:
        ConfigError: if no parameter of the part requires a gradient.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigError(f"watch: {type(module).__name__} has no parameters that train here")
    norms: dict[str, float] = {}
    with _same_buffers(method):
        for name, loss in method.losses(batch, phase).items():
            norms[name] = 0.0
            if loss.requires_grad:
                found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
                squares = [g.float().square().sum() for g in found if g is not None]
                norms[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return norms


@contextmanager
def _same_buffers(method: Method) -> Iterator[None]:
    buffers = list(method.buffers()) if isinstance(method, nn.Module) else []
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in zip(buffers, before, strict=True):
                buffer.copy_(kept)
