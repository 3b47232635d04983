"""Training and evaluation mode of parts of a method."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode inside a block, then every part back into its own."""
    before = {part: part.training for module in modules for part in module.modules()}
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, was_training in before.items():
            part.training = was_training


@contextmanager
def keeping_statistics(*modules: nn.Module) -> Iterator[None]:
    """Let batch norms normalise by their batch inside a block, as in training, and forget it.

    For a phase that looks at what another phase trains: it sees what that one will see, and leaves
    no trace in the running statistics [ours].
    """
    parts = [part for module in modules for part in module.modules()]
    tracking = [p for p in parts if isinstance(p, _BATCH_NORMS) and p.track_running_stats]
    for part in tracking:
        part.track_running_stats = False
    try:
        yield
    finally:
        for part in tracking:
            part.track_running_stats = True
