"""Recipes of CAD-Net and its branches."""

from dataclasses import replace

from resolute.engine.config import RunConfig
from resolute.methods.config import OptimiserConfig
from resolute.methods.settings.cad_net import ROWS
from resolute.models.config import ModelConfig
from resolute.recipes import ftwa
from resolute.recipes.base import start

# A decoder that costs less than the backbone it belongs to, at 256 x 128 [ours].
SMALL_DECODER = (64, 32, 16)
# Adam with little memory, as GANs are often trained [ours].
DISCRIMINATOR = OptimiserConfig(learning_rate=2e-4, beta1=0.5, weight_decay=0.0, bias_decay=0.0)


def paper(method: str, data: str) -> RunConfig:
    """Return the published recipe as far as it is remembered: two ResNet-50 from ImageNet, SGD.

    Differs from the publication: LR images are the benchmark's own beside the twins of HR images,
    where it has twins alone, shuffled apart from them. Epochs, schedule and augmentation are those
    of FTWA [assumed].

    Args:
        method: ``cad-net``, ``cad-net-f`` or ``cad-net-g``.
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
    those of every other row, in the margin, the size of D_F, D_I and G, and the weights of L_rec
    and both adversarial terms: at weight 1 each, what L_cls and D_I ask of G through the restored
    image drowns L_rec, and nothing is restored.

    Args:
        method: ``cad-net``, ``cad-net-f`` or ``cad-net-g``.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    return replace(
        ftwa.recommended("baseline-twins", data),
        name=method,
        method=replace(
            ROWS[method],
            weight_feature=0.1,
            weight_reconstruction=10.0,
            weight_image=0.1,
            margin=0.3,
            label_smoothing=0.1,
            decoder_widths=SMALL_DECODER,
            decoder_convs=2,
            feature_width=32,
            image_width=16,
            discriminator=DISCRIMINATOR,
        ),
    )


def quickstart(method: str, data: str = "mlr-synthetic") -> RunConfig:
    """Return a small run on drawn data from random weights, minutes on two cores [ours].

    Differs from the publication as :func:`recommended` does, and in input size. From random weights
    L_cls pulls at G harder still: L_rec weighs more.

    Args:
        method: ``cad-net``, ``cad-net-f`` or ``cad-net-g``.
        data: `mlr-synthetic`, or any other benchmark with a root.

    Returns:
        The complete settings.
    """
    return replace(
        ftwa.quickstart("baseline-twins", data),
        name=method,
        method=replace(
            ROWS[method],
            weight_feature=0.1,
            weight_reconstruction=30.0,
            weight_image=0.1,
            margin=0.3,
            mining="all",
            decoder_widths=SMALL_DECODER,
            decoder_convs=2,
            feature_width=16,
            image_width=16,
            discriminator=DISCRIMINATOR,
        ),
    )
