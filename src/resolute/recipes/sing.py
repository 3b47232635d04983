"""Recipes of SING."""

from dataclasses import replace

from resolute.data.benchmark import MLR
from resolute.data.catalogue import find_dataset
from resolute.data.sampler import num_steps
from resolute.engine.config import RunConfig, TrainConfig
from resolute.methods.config import OptimiserConfig, ScheduleConfig
from resolute.methods.settings.sing import ROWS, SINGConfig
from resolute.models.config import ModelConfig
from resolute.recipes import ftwa
from resolute.recipes.base import start

# Of 40 + 40 images: 1000 on CAVIAR, 5000 on CUHK01 [SING]; VIPeR as CAVIAR, others as CUHK01
# [assumed].
STEPS = {"caviar": 1000, "viper": 1000}
STEPS_ELSEWHERE = 5000
BATCH_SIZE = 80
# Of CUHK03's classic splits, which differ by some; sets of unknown size train as long [assumed].
IMAGES_ELSEWHERE = 13_000
# The super-resolution networks come pre-trained in the publication; here they learn first, in
# epochs on top of the others [ours].
RESTORATION_SHARE = 0.25


def paper(method: str, data: str) -> RunConfig:
    """Return the published recipe: 160 x 72, inception network, SGD with polynomial decay [SING].

    Differs from the publication: no network is pre-trained (there SRCNN at each factor, and the
    identity network on Market-1501), so super-resolution learns from twins first; all factors share
    one identity network and train in one run; two accumulated batches of 20 per source are one of
    40; only mirroring augments, as there.

    Args:
        method: ``sing``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    base = start(method, data)
    return replace(
        base,
        loader=replace(base.loader, batch_size=BATCH_SIZE, pad=0, erasing=0.0),
        model=ModelConfig(height=160, width=72),
        method=replace(ROWS[method], identity_network="dgd", restoration_share=RESTORATION_SHARE),
        optimiser=OptimiserConfig(name="sgd", nesterov=False, learning_rate=0.01),
        schedule=ScheduleConfig(warmup=0.0, shape="polynomial", power=0.5),
        train=TrainConfig(epochs=_with_restoration(_epochs(data))),
    )


def recommended(method: str, data: str) -> RunConfig:
    """Return a short fine-tuning from a ReID start, with the budget of FTWA's [ours].

    Differs from the publication in backbone, start weights, schedule and augmentation, which are
    those of every other row. Super-resolution keeps the input size by padding, moves at a tenth of
    the rate of new layers by a loss of the scale of the others, and sharpens a native LR image by
    the nearest network alone, a third of the work; matching is by vectors of length 1. The identity
    network has as many epochs as in the other rows, super-resolution learns before them.

    Args:
        method: ``sing``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    base = ftwa.recommended("baseline-twins", data)
    return replace(
        base,
        name=method,
        method=_short(method),
        train=replace(base.train, epochs=_with_restoration(base.train.epochs)),
    )


def quickstart(method: str, data: str = "mlr-synthetic") -> RunConfig:
    """Return a small run on drawn data from random weights, minutes on two cores [ours].

    Differs from the publication as :func:`recommended` does, but super-resolution loses 8 lines on
    each side as published; its networks are a quarter as wide.

    Args:
        method: ``sing``.
        data: `mlr-synthetic`, or any other benchmark with a root.

    Returns:
        The complete settings.
    """
    base = ftwa.quickstart("baseline-twins", data)
    return replace(
        base,
        name=method,
        model=replace(base.model, height=base.model.height + 16, width=base.model.width + 16),
        method=replace(_short(method), padding=False, widths=(16, 8), label_smoothing=0.0),
        train=replace(base.train, epochs=_with_restoration(base.train.epochs)),
    )


def _short(method: str) -> SINGConfig:
    return replace(
        ROWS[method],
        padding=True,
        lr_route="nearest",
        weight_restoration=10.0,
        restoration_reduction="mean",
        restoration_factor=0.1,
        restoration_tail_factor=0.01,
        restoration_share=RESTORATION_SHARE,
        label_smoothing=0.1,
        normalise=True,
    )


def _epochs(data: str) -> int:
    base = data.removeprefix(MLR)
    counts = find_dataset(base).counts
    num_images = (counts and counts.train.images) or IMAGES_ELSEWHERE
    return round(STEPS.get(base, STEPS_ELSEWHERE) / num_steps(num_images, BATCH_SIZE))


def _with_restoration(epochs: int) -> int:
    return round(epochs / (1 - RESTORATION_SHARE))
