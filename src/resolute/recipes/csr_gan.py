"""Recipes of CSR-GAN."""

from dataclasses import replace

from resolute.engine.config import RunConfig, TrainConfig
from resolute.methods.config import OptimiserConfig, ScheduleConfig
from resolute.methods.settings.csr_gan import ROWS, CSRGANConfig
from resolute.models.config import ModelConfig
from resolute.recipes import ftwa
from resolute.recipes.base import start


def paper(method: str, data: str) -> RunConfig:
    """Return the published recipe: ResNet-50 at 224 x 224, 2100 epochs [Wang 2018].

    Differs from the publication: the identity network starts from ImageNet, where it was trained on
    Market-1501 after that; it also learns from LR images, which the released code leaves out; its
    update on HR images and that on restored ones are one. VGG-19 has to be named
    (`--method.perceptual_weights FILE`), else two of the four terms are off.

    Args:
        method: ``csr-gan``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    base = start(method, data)
    return replace(
        base,
        loader=replace(base.loader, batch_size=32, erasing=0.0),
        model=ModelConfig(backbone="resnet50", weights="imagenet", height=224, width=224),
        optimiser=OptimiserConfig(
            name="sgd", learning_rate=1e-3, nesterov=False, weight_decay=0.0, bias_decay=0.0
        ),
        schedule=ScheduleConfig(warmup=0.0, milestones=()),
        train=TrainConfig(epochs=2100),
    )


def recommended(method: str, data: str) -> RunConfig:
    """Return a short fine-tuning from a ReID start, with the budget of FTWA's [ours].

    Differs from the publication in backbone, start weights, schedule and augmentation, which are
    those of every other row; in generators and discriminators, which have a quarter of the
    channels and blocks and start from bicubic enlargement; in the warm-up, a sixth of the run; in
    dropout, which is off; and in images that enter the chain at all three sizes, as they do when
    they are matched.

    Args:
        method: ``csr-gan``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    return replace(
        ftwa.recommended("baseline-twins", data),
        name=method,
        method=_small(method, label_smoothing=0.1),
    )


def quickstart(method: str, data: str = "mlr-synthetic") -> RunConfig:
    """Return a small run on drawn data from random weights, minutes on two cores [ours].

    Differs from the publication as :func:`recommended` does, and in input size.

    Args:
        method: ``csr-gan``.
        data: `mlr-synthetic`, or any other benchmark with a root.

    Returns:
        The complete settings.
    """
    return replace(
        ftwa.quickstart("baseline-twins", data),
        name=method,
        method=_small(method, label_smoothing=0.0),
    )


def _small(method: str, *, label_smoothing: float) -> CSRGANConfig:
    rate = replace(ROWS[method].generator, learning_rate=1e-3)
    return replace(
        ROWS[method],
        chain_height=0,
        chain_width=0,
        generator_width=16,
        generator_blocks=4,
        generator_residual=True,
        discriminator_width=16,
        warmup_share=1 / 6,
        entries="spread",
        dropout=0.0,
        label_smoothing=label_smoothing,
        generator=rate,
        discriminator=replace(rate, learning_rate=1e-4),
    )
