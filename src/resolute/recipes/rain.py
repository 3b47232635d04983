"""Recipes of RAIN, its variants and its ablations."""

from dataclasses import replace

from resolute.engine.config import RunConfig
from resolute.methods.config import OptimiserConfig
from resolute.methods.settings.rain import ROWS
from resolute.models.config import ModelConfig
from resolute.recipes import ftwa
from resolute.recipes.base import start

# A decoder that costs less than the backbone it belongs to, at 256 x 128 [ours].
SMALL_DECODER = (64, 32, 16)
# Adam with little memory, as GANs are often trained [ours].
DISCRIMINATOR = OptimiserConfig(learning_rate=2e-4, beta1=0.5, weight_decay=0.0, bias_decay=0.0)


def paper(method: str, data: str) -> RunConfig:
    """Return the published recipe as far as it is known: ResNet-50 from ImageNet, SGD [RAIN].

    Differs from the publication: LR images are the benchmark's own and twins of the HR images of
    the same batch, where it down-samples other HR images. Learning rate and batch size are those of
    CAD-Net, epochs, schedule and augmentation those of FTWA [assumed].

    Args:
        method: a row of RAIN.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    base = start(method, data)
    return replace(
        base,
        loader=replace(base.loader, batch_size=32),
        model=ModelConfig(backbone="resnet50", weights="imagenet"),
        optimiser=OptimiserConfig(name="sgd", learning_rate=1e-3, nesterov=False),
    )


def recommended(method: str, data: str) -> RunConfig:
    """Return a short fine-tuning from a ReID start, with the budget of FTWA's [ours].

    Differs from the publication in backbone, start weights, schedule and augmentation, which are
    those of every other row, in the margin, the size of D and G, and the weights of their terms: at
    weight 1 the adversaries outweigh what tells people apart.

    Args:
        method: a row of RAIN.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    row = ROWS[method]
    return replace(
        ftwa.recommended("baseline-twins", data),
        name=method,
        method=replace(
            row,
            weight_adversarial=0.1 * row.weight_adversarial,
            margin=0.3,
            label_smoothing=0.1,
            decoder_widths=SMALL_DECODER,
            decoder_convs=2,
            discriminator_width=32,
            discriminator=DISCRIMINATOR,
        ),
    )


def quickstart(method: str, data: str = "mlr-synthetic") -> RunConfig:
    """Return a small run on drawn data from random weights, minutes on two cores [ours].

    Differs from the publication as :func:`recommended` does, and in input size.

    Args:
        method: a row of RAIN.
        data: `mlr-synthetic`, or any other benchmark with a root.

    Returns:
        The complete settings.
    """
    row = ROWS[method]
    return replace(
        ftwa.quickstart("baseline-twins", data),
        name=method,
        method=replace(
            row,
            weight_adversarial=0.1 * row.weight_adversarial,
            margin=0.3,
            mining="all",
            decoder_widths=SMALL_DECODER,
            decoder_convs=2,
            discriminator_width=16,
            discriminator=DISCRIMINATOR,
        ),
    )
