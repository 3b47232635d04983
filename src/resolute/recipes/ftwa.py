"""Recipes of FTWA and its variants."""

from dataclasses import replace

from resolute.data.benchmark import DataConfig
from resolute.data.synthetic import SyntheticConfig
from resolute.engine.config import RunConfig, TrainConfig
from resolute.methods.config import OptimiserConfig, ScheduleConfig
from resolute.methods.settings.ftwa import ROWS
from resolute.models.config import ModelConfig
from resolute.recipes.base import start


def paper(method: str, data: str) -> RunConfig:
    """Return the paper's recipe: ResNet-50 from ImageNet, 120 epochs [FTWA 3.2].

    Args:
        method: a row of Table 2 or one of its controls.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    return replace(start(method, data), model=ModelConfig(backbone="resnet50", weights="imagenet"))


def recommended(method: str, data: str) -> RunConfig:
    """Return a short fine-tuning from a ReID start, on a CPU too [ours].

    Start weights trained for ReID (`--model.weights FILE`) matter more than anything else here. New
    layers move fast, pre-trained ones at a fifth of that, along one cosine, in bf16; targets are
    smoothed and the three loss terms have equal weight. Longer runs lose what the start knew. With
    one picture per view an epoch has few steps, and more of them are made. Chosen on training
    identities of CUHK03-P1 alone, see docs/findings.md.

    Args:
        method: a row of Table 2 or one of its controls.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    base = paper(method, data)
    epochs = 18 if base.loader.num_instances == 1 else 8
    return replace(
        base,
        model=ModelConfig(backbone="osnet_gn_x0_5"),
        method=replace(ROWS[method], weight_identity=1.0, weight_raft=1.0, label_smoothing=0.1),
        optimiser=OptimiserConfig(learning_rate=3.5e-3, pretrained_factor=0.2),
        schedule=ScheduleConfig(shape="cosine"),
        train=TrainConfig(epochs=epochs, amp=True, channels_last=True),
    )


def quickstart(method: str, data: str = "mlr-synthetic") -> RunConfig:
    """Return the recipe of `resolute quickstart`: small, drawn data, minutes on two cores [ours].

    From random weights, so the gentler triplet: the hardest one alone pulls all vectors to a point.

    Args:
        method: a row of Table 2 or one of its controls.
        data: `mlr-synthetic`, or any other benchmark with a root.

    Returns:
        The complete settings.
    """
    base = recommended(method, data)
    return replace(
        base,
        data=DataConfig(
            name=data, synthetic=SyntheticConfig(num_identities=320, images_per_camera=3)
        ),
        loader=replace(base.loader, erasing=0.0),
        model=ModelConfig(backbone="osnet_x0_25", height=128, width=64),
        method=replace(
            ROWS[method], weight_identity=1.0, weight_raft=1.0, mining="all", label_smoothing=0.0
        ),
        optimiser=OptimiserConfig(learning_rate=3.5e-3),
        schedule=ScheduleConfig(shape="cosine"),
        train=TrainConfig(epochs=40, threads=2, channels_last=True),
    )
