"""Recipes of plain super-resolution, then re-identification: the baseline's, with its images."""

from collections.abc import Callable
from dataclasses import replace

from resolute.core.errors import ConfigError
from resolute.engine.config import RunConfig
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.methods.settings.plain_sr import ROWS
from resolute.recipes import ftwa


def paper(method: str, data: str) -> RunConfig:
    """Return the baseline of FTWA's paper with these rows' images: ResNet-50, 120 epochs [ours].

    There is no publication to differ from; schedule and weights are those of [FTWA 3.2].

    Args:
        method: ``sr-bicubic`` or ``sr-net``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    return _as_baseline(ftwa.paper, method, data)


def recommended(method: str, data: str) -> RunConfig:
    """Return the baseline's short fine-tuning from a ReID start with these rows' images [ours].

    The identity network has as many epochs as in the other rows; super-resolution learns before.

    Args:
        method: ``sr-bicubic`` or ``sr-net``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    return _as_baseline(ftwa.recommended, method, data)


def quickstart(method: str, data: str = "mlr-synthetic") -> RunConfig:
    """Return the baseline's small run on drawn data with these rows' images [ours].

    Args:
        method: ``sr-bicubic`` or ``sr-net``.
        data: `mlr-synthetic`, or any other benchmark with a root.

    Returns:
        The complete settings.
    """
    return _as_baseline(ftwa.quickstart, method, data)


def _as_baseline(recipe: Callable[[str, str], RunConfig], method: str, data: str) -> RunConfig:
    base = recipe("baseline-twins", data)
    of_baseline = base.method
    if not isinstance(of_baseline, FTWAConfig):
        raise ConfigError(f"baseline-twins: expected FTWA's settings, got {type(of_baseline)}")
    settings = replace(
        ROWS[method],
        weight_identity=of_baseline.weight_identity,
        weight_triplet=of_baseline.weight_triplet,
        margin=of_baseline.margin,
        mining=of_baseline.mining,
        label_smoothing=of_baseline.label_smoothing,
    )
    epochs = base.train.epochs
    if settings.restoration == "network":
        epochs = round(epochs / (1 - settings.restoration_share))
    return replace(base, name=method, method=settings, train=replace(base.train, epochs=epochs))
