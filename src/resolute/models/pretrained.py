"""A backbone with its start weights: from a file, from ImageNet, or random."""

import http.client
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from resolute.core.errors import CheckpointError, ConfigError
from resolute.models.backbone import BACKBONES, build_backbone, check_input_size
from resolute.models.config import BackboneName, ModelConfig
from resolute.models.osnet import OSNet
from resolute.models.pooling import GeneralisedMean
from resolute.models.resnet import ResNet
from resolute.models.weights import (
    STEMS,
    MatchReport,
    load_weights,
    match,
    read_state,
    rename,
    toolbox_of,
)

IMAGENET = "imagenet"
EXPONENT = "avgpool.exponent"  # how the name of a generalised mean's parameter ends

# The first published ImageNet weights, those of 2021 and before [assumed: the paper's date].
IMAGENET_WEIGHTS = {
    "resnet18": torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
    "resnet34": torchvision.models.ResNet34_Weights.IMAGENET1K_V1,
    "resnet50": torchvision.models.ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": torchvision.models.ResNet101_Weights.IMAGENET1K_V1,
}


def start_backbone(config: ModelConfig) -> tuple[ResNet | OSNet, MatchReport | None]:
    """Build the backbone of a configuration and fill it from its start weights.

    Random weights are drawn from torch's default generator; seed it around the call.

    Args:
        config: which backbone, from which weights, at which input size.

    Returns:
        The backbone and what its weight file filled; None for a random start.

    Raises:
        ConfigError: if the settings contradict each other.
        CheckpointError: if the weights cannot be had or do not fit.
    """
    backbone = build_backbone(
        config.backbone,
        last_stride=config.last_stride,
        stem_relu=config.stem_relu,
        stem_pool_padding=config.stem_pool_padding,
    )
    check_input_size(backbone, config.height, config.width)
    report = None
    if config.pooling == "gem":
        backbone.set_pooling(GeneralisedMean())
    if config.weights:
        is_imagenet = config.weights == IMAGENET
        path = imagenet_file(config.backbone) if is_imagenet else Path(config.weights)
        # Only files of ours know the exponent of a generalised mean.
        optional = frozenset(name for name in backbone.state_dict() if name.endswith(EXPONENT))
        try:
            report = load_weights(backbone, path, partial=config.partial_weights, optional=optional)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{_fitting(path, config.backbone)}") from error
    return backbone, report


def imagenet_file(name: str) -> Path:
    """Find a ResNet's ImageNet weights in torch's hub folder, or download them there.

    Args:
        name: ``resnet18``, ``resnet34``, ``resnet50`` or ``resnet101``.

    Returns:
        Path of the weight file.

    Raises:
        ConfigError: if this backbone has no ImageNet weights in torchvision.
        CheckpointError: if the file is not on disk and cannot be downloaded.
    """
    if name not in IMAGENET_WEIGHTS:
        raise ConfigError(
            f"no ImageNet weights for {name} in torchvision, only for "
            f"{', '.join(IMAGENET_WEIGHTS)}: name a weight file in model.weights"
        )
    url: str = IMAGENET_WEIGHTS[name].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # torchvision puts the start of the sha256 into the name: resnet50-0676ba61.pth
        digest = path.stem.rsplit("-", 1)[-1]
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise CheckpointError(
            f"no ImageNet weights for {name}: {url} cannot be downloaded ({error}): put that "
            f"file at {path}, or name a weight file in model.weights"
        ) from error
    return path


def recognise(path: str | Path) -> ModelConfig:
    """Tell which model a weight file belongs to, by names and shapes.

    Args:
        path: weight file.

    Returns:
        The backbone that the file fills completely, of several the largest, with the stem of the
        toolbox that wrote the file, the pooling that it learnt, and the file as its weights.

    Raises:
        CheckpointError: if the file cannot be read or fills no backbone completely.
    """
    content = read_state(path)
    state = rename(content, where=str(path))
    best, report = nearest_backbone(state, where=str(path))
    if report.missing or report.mismatched:
        raise CheckpointError(
            f"{report.summary()}: that is {best}, the nearest of {', '.join(BACKBONES)}: "
            "name the backbone with model.backbone"
        )
    found = ModelConfig(
        backbone=best,
        weights=str(path),
        pooling="gem" if any(name.endswith(EXPONENT) for name in state) else "backbone",
    )
    toolbox = toolbox_of(content)
    if best.startswith("resnet") and toolbox in STEMS:
        setting, value = STEMS[toolbox]
        found = replace(found, **{setting: value})
    return found


def nearest_backbone(
    state: Mapping[str, Tensor], *, where: str
) -> tuple[BackboneName, MatchReport]:
    """Find the backbone that tensors fill completely or, if there is none, the most of.

    Args:
        state: tensors by the backbones' names, see :func:`~resolute.models.weights.rename`.
        where: path for the report.

    Returns:
        Of several the largest, and what matched.
    """
    reports: dict[BackboneName, MatchReport] = {}
    with torch.device("meta"):  # names and shapes only, no memory
        for name, build in BACKBONES.items():
            reports[name] = match(build(), state, where=where)
    best = max(reports, key=lambda name: _completeness(reports[name]))
    return best, reports[best]


def _fitting(path: Path, tried: BackboneName) -> str:
    try:
        found = recognise(path).backbone
    except CheckpointError:
        return ""
    return "" if found == tried else f"; the file fits model.backbone {found}"


def _completeness(report: MatchReport) -> tuple[bool, int]:
    is_complete = not report.missing and not report.mismatched
    return is_complete, len(report.matched)
