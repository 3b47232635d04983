"""The one way from a run folder to its model, its settings and the records it is scored on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resolute.core.config import override
from resolute.core.errors import ConfigError, DatasetError, ProtocolError
from resolute.core.types import Split
from resolute.data.benchmark import DataConfig, joined, open_parts, open_split
from resolute.data.catalogue import family, shows_same_people
from resolute.engine.config import RunConfig
from resolute.engine.distributed import World, resolve_device
from resolute.engine.provenance import num_trainable
from resolute.engine.run import CONFIG_NAME, read_config
from resolute.inference.load import MODEL_NAME, Model, find_model, load

# Where the data stand, and on what they are computed, changes no score.
_FREE = frozenset({"data.root", "data.cache", "train.device", "train.threads"})
# Query and gallery are the same whatever joins in training.
_OF_TRAINING = frozenset({"data.also_train", "data.also_part"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRun:
    """A run that is ready to be looked at.

    Attributes:
        file: of the model.
        folder: of the run.
        model: on the device, in evaluation mode, with all its spaces, without its calibration.
        config: settings of the run, with what was asked for changed.
        split: records; those the run was trained on, unless others were asked for.
        device: where the model is.
        changed: settings asked for that may change a score, by dotted path.
    """

    file: Path
    folder: Path
    model: Model
    config: RunConfig
    split: Split
    device: torch.device
    changed: frozenset[str]

    @property
    def is_export(self) -> bool:
        """Whether the model is a file exported from the run, not the run's own."""
        return self.file.name != MODEL_NAME

    @property
    def num_parameters(self) -> int:
        """Count the parameters of the model file; 0 of an exported graph, which hides them."""
        method = self.model.method
        return num_trainable(method) if isinstance(method, nn.Module) else 0


def open_run(
    path: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    runtime: str = "",
    precision: str = "",
) -> OpenedRun:
    """Open a run: load its model, change settings, read its records.

    Args:
        path: run folder with ``model.safetensors``, or a file exported from it to a folder in it.
        overrides: settings to change by dotted path, for example ``{"data.root": "~/viper"}`` or
            ``{"method.fusion": "mean"}``.
        runtime: of an exported file: ``onnxruntime`` or ``openvino``; its own by default.
        precision: of an exported file: ``f32`` or ``bf16``; its own by default.

    Returns:
        Model, settings and records.

    Raises:
        ConfigError: if a setting is unknown, the data are not those the run was trained on, or
            others that were asked for hold people it was trained on.
        CheckpointError: if there is no model, or it is damaged.
        DatasetError: if the data set cannot be read.
    """
    file = find_model(path)
    folder = _run_of(file)
    changes = dict(overrides or {})
    own = read_config(folder)
    config = override(own, changes)
    is_run = file.name == MODEL_NAME
    device = resolve_device(config.train.device, World()) if is_run else torch.device("cpu")
    model = load(
        file,
        overrides=changes_of("method.", changes),
        device=device,
        runtime=runtime,
        precision=precision,
        with_calibration=False,
        with_all_spaces=True,
    )
    split = open_split(config.data)
    changed = frozenset(changes) - _FREE
    _check_split(model, split, own.data, config.data, folder.resolve().name, changed)
    return OpenedRun(
        file=file,
        folder=folder,
        model=model,
        config=config,
        split=split,
        device=device,
        changed=changed,
    )


def changes_of(section: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the changed settings of one section, by name within it.

    Args:
        section: with its dot, for example ``method.``.
        changes: values by dotted path.
    """
    return {p.removeprefix(section): v for p, v in changes.items() if p.startswith(section)}


def _run_of(file: Path) -> Path:
    """Find the run folder a model file belongs to: its own, or the one above an export.

    Raises:
        ConfigError: if there is none.
    """
    for folder in (file.parent, file.parent.parent):
        if (folder / CONFIG_NAME).is_file():
            return folder
    raise ConfigError(
        f"{file}: no {CONFIG_NAME} of a run beside it or one folder up, so its data set is not "
        "known; score it from the folder it was exported to"
    )


def _check_split(
    model: Model, split: Split, own: DataConfig, data: DataConfig, run: str, changed: frozenset[str]
) -> None:
    """Refuse records that are not the run's own, unless others were asked for.

    Raises:
        ConfigError: if they are others, or hold people that the run was trained on.
    """
    # Empty where the weights came from elsewhere.
    trained_on = (model.metadata["split"], model.metadata["split_digest"])
    if not all(trained_on) or (split.name, split.digest()) == trained_on:
        return
    asked = {path for path in changed if path.startswith("data.")}
    if not asked:
        raise ConfigError(
            f"{run}: the records of {split.name} are not those the run was trained on: check "
            "data.root; another set is taken by naming it (--data.name)"
        )
    sets = trained_on[0].split(" + ")
    if asked - _OF_TRAINING and any(shows_same_people(name, split.name) for name in sets):
        _check_unseen(trained_on, split, own, data, run)


def _check_unseen(
    trained_on: tuple[str, str], split: Split, own: DataConfig, data: DataConfig, run: str
) -> None:
    is_folder = family(split.name) == "folder"  # whose numbers mean nothing in another one
    roots = (data.root,) if is_folder else (data.root, own.root)
    places = [
        replace(own, root=root, also_train=sources)
        for root in dict.fromkeys(roots)
        for sources in dict.fromkeys((own.also_train, data.also_train))
    ]
    parts = _trained_parts(places, trained_on)
    if parts is None:
        if is_folder:
            return
        raise ConfigError(
            f"{run}: {split.name} shows people of {trained_on[0]}, and whom of them the run was "
            f"trained on cannot be told: its {CONFIG_NAME} does not lead to its own records; set "
            "data.root and data.also_train there"
        )
    trained = {
        r.pid for p in parts if shows_same_people(p.name, split.name) for r in p.train if r.pid > 0
    }
    tested = {r.pid for r in (*split.query, *split.gallery) if r.pid > 0}
    if trained & tested:
        raise ConfigError(
            f"{run}: was trained on {len(trained & tested)} of the {len(tested)} people of query "
            f"and gallery in {split.name}: a score on them says nothing; take the run's own test "
            "people or another data set"
        )


def _trained_parts(places: Iterable[DataConfig], trained_on: tuple[str, str]) -> list[Split] | None:
    """Read what a run was trained on where it stands now or stood then; None if it does not."""
    for place in places:
        try:
            parts = open_parts(place)
            whole = joined(parts)
        except (ConfigError, DatasetError, ProtocolError):
            continue  # another data set's folder
        if (whole.name, whole.digest()) == trained_on:
            return parts
    return None
