"""Load a trained model from a run folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resolute.core.config import override
from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.rng import Streams
from resolute.inference.model_file import load_model, load_weights
from resolute.methods.catalogue import METHODS, Blueprint
from resolute.methods.ftwa import FTWA

MODEL_NAME = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained method, ready to embed, and what its file says of it.

    Attributes:
        method: keeps the contract of :mod:`resolute.methods.contract`; on the CPU, in eval mode.
        blueprint: what it was built from.
        metadata: config, split digest, versions and whatever else the run stored.
    """

    method: FTWA
    blueprint: Blueprint
    metadata: Mapping[str, Any]


def load(path: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Model:
    """Load a model by its run folder or file.

    Args:
        path: a run folder, or its ``model.safetensors``.
        overrides: settings of the method to change by name, for example
            ``{"fusion": "mean", "gallery_rates": "2,3,4"}``. Only settings that need no other
            weights can change.

    Returns:
        The model, on the CPU.

    Raises:
        CheckpointError: if there is no model file, or it is damaged or of another kind.
        ConfigError: if a setting is unknown or needs other weights.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / MODEL_NAME
    if not file.is_file():
        raise CheckpointError(
            f"{file}: no model there; train to the end, or give a run folder with {MODEL_NAME}"
        )
    weights, metadata = load_model(file)
    try:
        blueprint = Blueprint.of(metadata["blueprint"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: no model of this library ({error})") from None
    method_settings = override(blueprint.method, overrides or {})
    blueprint = replace(
        blueprint, model=replace(blueprint.model, weights=""), method=method_settings
    )
    if blueprint.name not in METHODS:
        raise CheckpointError(f"{file}: made by method {blueprint.name!r}, which is unknown here")
    method, _ = METHODS[blueprint.name](blueprint, streams=Streams(0))
    try:
        load_weights(method, weights, where=str(file))
    except CheckpointError as error:
        if overrides:
            names = ", ".join(sorted(overrides))
            raise ConfigError(f"method settings {names} need other weights: {error}") from None
        raise
    return Model(method=method.eval(), blueprint=blueprint, metadata=metadata)
