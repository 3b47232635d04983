"""Recipes of RIFE, FFSR and both."""

from dataclasses import replace

from resolute.engine.config import RunConfig, TrainConfig
from resolute.methods.config import OptimiserConfig, ScheduleConfig
from resolute.methods.settings.rife import ROWS
from resolute.models.config import ModelConfig
from resolute.recipes import ftwa
from resolute.recipes.base import start

# At the published width and 256 x 128 FFSR multiplies more than a ResNet-50 does [ours].
SMALL_WIDTH = 16


def paper(method: str, data: str) -> RunConfig:
    """Return the published recipe: two ResNet-50 from ImageNet, 60 epochs [Mao 2019].

    Differs from the publication: batches hold as many HR as LR images and the twins come on top,
    where it draws 32 images at random; crops come from a padded image, where it enlarges by 1.125;
    restoration is learned from the HR images of the benchmark, as MLR LR images have no original.

    Args:
        method: ``rife-ffsr``, ``rife`` or ``ffsr``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    base = start(method, data)
    return replace(
        base,
        loader=replace(base.loader, batch_size=32, erasing=0.0),
        model=ModelConfig(backbone="resnet50", weights="imagenet"),
        method=replace(ROWS[method], normalised=False),
        optimiser=OptimiserConfig(learning_rate=3e-4),
        schedule=ScheduleConfig(warmup=0.0, milestones=(1 / 3, 2 / 3), gamma=0.1),
        train=TrainConfig(epochs=60),
    )


def recommended(method: str, data: str) -> RunConfig:
    """Return a short fine-tuning from a ReID start, with the budget of FTWA's [ours].

    Differs from the publication in backbone, start weights, schedule and augmentation, which are
    those of every other row, and in FFSR, which has a quarter of the channels and starts as the
    identity: pre-trained streams meet images as they know them.

    Args:
        method: ``rife-ffsr``, ``rife`` or ``ffsr``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    return replace(
        ftwa.recommended("baseline-twins", data),
        name=method,
        method=replace(
            ROWS[method], label_smoothing=0.1, ffsr_width=SMALL_WIDTH, ffsr_zero_tail=True
        ),
    )


def quickstart(method: str, data: str = "mlr-synthetic") -> RunConfig:
    """Return a small run on drawn data from random weights, minutes on two cores [ours].

    Differs from the publication as :func:`recommended` does, and in input size.

    Args:
        method: ``rife-ffsr``, ``rife`` or ``ffsr``.
        data: `mlr-synthetic`, or any other benchmark with a root.

    Returns:
        The complete settings.
    """
    return replace(
        ftwa.quickstart("baseline-twins", data),
        name=method,
        method=replace(ROWS[method], ffsr_width=SMALL_WIDTH, ffsr_zero_tail=True),
    )
