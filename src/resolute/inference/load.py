"""Load a trained model by its run folder, its file or its name."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resolute.core.config import override, unknown_name, walk
from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.rng import Streams
from resolute.inference.calibration import CALIBRATION_NAME, Calibration
from resolute.inference.compare import Comparison
from resolute.inference.inputs import ImageLike
from resolute.inference.model import Model
from resolute.inference.model_file import load_model, load_weights
from resolute.inference.native import ResolutionLike
from resolute.inference.runtimes import RUNTIMES, open_exported
from resolute.inference.shipped import shipped_folder
from resolute.methods.blueprint import Blueprint
from resolute.methods.catalogue import METHODS
from resolute.methods.config import MethodConfig
from resolute.methods.contract import Sparing, drop_training_parts
from resolute.models.config import ModelConfig

__all__ = [
    "MODEL_NAME",
    "Model",
    "compare",
    "find_model",
    "fingerprint_of",
    "load",
    "read_calibration",
]

MODEL_NAME = "model.safetensors"
_EXPORTED = (".onnx", ".xml")
_LOG = logging.getLogger(__name__)

# What changes no vector: how they are matched, and where the weights came from.
_NOT_OF_VECTORS = (
    "fusion",
    "metric",
    "constant",
    "weights",
    "partial_weights",
    "perceptual_weights",
)


def compare(
    a: ImageLike | Sequence[ImageLike],
    b: ImageLike | Sequence[ImageLike],
    *,
    model: Model | str | Path,
    resolution: ResolutionLike | None = None,
    prior: float | None = None,
) -> Comparison:
    """Compare two people, each by one image or several; see :meth:`Model.compare`.

    Args:
        a: image or images of one person.
        b: image or images of one person.
        model: embeds, and brings its calibration; or what :func:`load` takes, which loads it for
            this one comparison.
        resolution: ``hr``, ``lr`` or ``auto`` for all images.
        prior: chance of one person before looking; None takes the calibration's.

    Returns:
        Distance, probability where it is known, sizes, and warnings.
    """
    loaded = model if isinstance(model, Model) else load(model)
    return loaded.compare(a, b, resolution=resolution, prior=prior)


def load(
    path: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    runtime: str = "",
    precision: str = "",
    threads: int = 0,
    with_calibration: bool = True,
    with_all_spaces: bool = False,
) -> Model:
    """Load a model by its run folder, its file, or the name of one that comes with the package.

    Args:
        path: a run folder, its ``model.safetensors``, an exported ``.onnx`` or ``.xml`` file, or a
            name, tried in this order.
        overrides: settings of the method to change by name, for example
            ``{"fusion": "mean", "gallery_rates": "2,3,4"}``. Only settings that need no other
            weights can change.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto``: the GPU if there is one. An
            exported file runs on the CPU.
        runtime: ``torch``, or for an exported file ``onnxruntime`` or ``openvino``; by default
            what the file is made for.
        precision: of an exported file in OpenVINO: ``f32`` or ``bf16``; by default its own.
        threads: of an exported file's runtime; 0 takes torch's number.
        with_calibration: read the calibration that lies beside the model.
        with_all_spaces: keep the space that the fusion does not read, to match the same vectors by
            another; an exported file has what it was exported with.

    Returns:
        The model, with the calibration that lies beside it, unless an override changed its
        vectors.

    Raises:
        CheckpointError: if there is no model file, or it is damaged or of another kind; if its
            calibration is damaged or was fitted for another model.
        ConfigError: if a setting is unknown or needs other weights, or there is no such device
            or runtime.
    """
    file = find_model(path)
    if runtime and runtime not in RUNTIMES:
        raise ConfigError(unknown_name("runtime", runtime, list(RUNTIMES)))
    if file.suffix in _EXPORTED:
        if str(device) not in ("cpu", "auto"):
            raise ConfigError(f"{file}: an exported file runs on the CPU, not on device {device}")
        model = _load_exported(file, overrides, runtime, precision, threads)
        return model if with_calibration else replace(model, calibration=None)
    if runtime not in ("", "torch") or precision:
        raise ConfigError(
            f"{file}: runtime and precision are for exported files; first: resolute export RUN"
        )
    weights, metadata = load_model(file)
    stored = _blueprint(file, metadata)
    blueprint = replace(
        stored,
        model=replace(stored.model, weights=""),
        method=override(stored.method, overrides or {}),
    )
    method, _ = METHODS[blueprint.name](blueprint, streams=Streams(0))
    drop_training_parts(method)
    try:
        load_weights(method, weights, where=str(file))
    except CheckpointError as error:
        if overrides:
            names = ", ".join(sorted(overrides))
            raise ConfigError(f"method settings {names} need other weights: {error}") from None
        raise
    is_whole = with_all_spaces or not blueprint.method.has_unread_space
    if not is_whole and isinstance(method, Sparing):
        method.drop_unread_space()
    fingerprint = fingerprint_of(weights, blueprint, is_whole=is_whole)
    usual = fingerprint_of(weights, stored, is_whole=not stored.method.has_unread_space)
    is_fitted = with_calibration and fingerprint == usual
    return Model(
        # The memory layout in which a CPU convolves this kind of network half as fast again.
        method=method.eval().to(memory_format=torch.channels_last).to(_device(device)),
        blueprint=blueprint,
        metadata=metadata,
        fingerprint=fingerprint,
        calibration=read_calibration(file.parent, fingerprint) if is_fitted else None,
    )


def _load_exported(
    file: Path, overrides: Mapping[str, Any] | None, runtime: str, precision: str, threads: int
) -> Model:
    if overrides:
        names = ", ".join(sorted(overrides))
        raise ConfigError(f"{file}: settings of an exported file are fixed, cannot change {names}")
    if runtime == "torch":
        raise ConfigError(f"{file}: runtime torch needs the run folder that it was exported from")
    exported = open_exported(file, runtime=runtime, precision=precision, threads=threads)
    calibration = None
    try:
        calibration = read_calibration(file.parent, exported.fingerprint)
    except CheckpointError as error:
        # Beside one model there may be files of other precisions, whose distances differ.
        _LOG.warning("no calibration: %s", error)
    return Model(
        method=exported,
        blueprint=_blueprint(file, exported.sidecar.run),
        metadata=exported.sidecar.run,
        fingerprint=exported.fingerprint,
        calibration=calibration,
    )


def find_model(path: str | Path) -> Path:
    """Find the file of a model.

    Args:
        path: a run folder, a model file, or the name of a model that comes with the package.

    Returns:
        The file.

    Raises:
        CheckpointError: if there is none; the message gives the nearest name.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / MODEL_NAME
    if file.is_file():
        return file
    if len(Path(path).parts) == 1 and not Path(path).suffix and not file.exists():
        return shipped_folder(str(path)) / MODEL_NAME
    raise CheckpointError(
        f"{file}: no model there; train to the end, or give a run folder with {MODEL_NAME}"
    )


def read_calibration(folder: Path, fingerprint: str) -> Calibration | None:
    """Read the calibration that lies beside a model.

    Args:
        folder: run folder.
        fingerprint: of the model.

    Returns:
        The calibration, None where there is none.

    Raises:
        CheckpointError: if it is damaged, or was fitted for another model.
    """
    path = folder / CALIBRATION_NAME
    if not path.is_file():
        return None
    calibration = Calibration.read(path)
    if calibration.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path}: fitted for another model ({calibration.fingerprint[:12]}, this one is "
            f"{fingerprint[:12]}) or another exported file beside it; where it should be this "
            "one's, calibrate the run and export it again"
        )
    return calibration


def fingerprint_of(
    weights: Mapping[str, Tensor], blueprint: Blueprint, *, is_whole: bool = True
) -> str:
    """Name the space that a model's vectors live in.

    Args:
        weights: of the model file.
        blueprint: what the method is built from.
        is_whole: whether an image has the vectors of all spaces, not of those that are read.

    Returns:
        sha256 over the weights and the settings that change vectors, not those that match them.
    """
    settings = {
        "height_reference": blueprint.height_reference,
        "model": _changed(blueprint.model),
        "method": _changed(blueprint.method),
        **({} if is_whole else {"spaces": "read"}),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _changed(settings: ModelConfig | MethodConfig) -> dict[str, Any]:
    # Those at their defaults are left out: a setting that a later version adds changes no name.
    usual = dict(walk(type(settings)()))
    return {
        path: value
        for path, value in walk(settings)
        if path not in _NOT_OF_VECTORS and value != usual[path]
    }


def _blueprint(file: Path, metadata: Mapping[str, Any]) -> Blueprint:
    try:
        stored = metadata["blueprint"]
        if stored["name"] not in METHODS:
            raise CheckpointError(f"{file}: made by method {stored['name']!r}, unknown here")
        return Blueprint.of(stored)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: no model of this library ({error})") from None


def _device(name: str | torch.device) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device: expected auto, cpu, cuda, cuda:N or mps of this machine, got {name!s} "
            f"({reason})"
        ) from None
    return device
