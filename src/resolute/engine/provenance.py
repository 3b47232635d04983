"""What a run or result tells of where it came from."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from resolute.engine.config import TrainConfig


def notes_of(method: nn.Module) -> list[str]:
    """Return what a reader of a method's scores has to know, from its optional member ``notes``.

    For example that a loss term is off because weights it needs were not given. Notes travel in
    the model file and stand under every table that shows the method.

    Args:
        method: any method.

    Returns:
        Sentences without full stop; none where the method says nothing.
    """
    notes: tuple[str, ...] = getattr(method, "notes", ())
    return list(notes)


def num_trainable(method: nn.Module) -> int:
    """Count the parameters that training moves, those of parts for training alone too.

    Args:
        method: as it is trained.
    """
    return sum(p.numel() for p in method.parameters() if p.requires_grad)


def weights_note(config: TrainConfig) -> dict[str, str]:
    """Say which weights a model file holds where they are not the last ones.

    Args:
        config: settings of the loop.

    Returns:
        ``weights`` in words, or nothing.
    """
    words = [f"running average, momentum {config.average:g}"] if config.average else []
    words += [f"{config.keep_start:g} of the start kept"] if config.keep_start else []
    return {"weights": "; ".join(words)} if words else {}


def start_of(weights: str, matched: str) -> dict[str, str]:
    """Name start weights for the record.

    Args:
        weights: path, ``imagenet`` or empty.
        matched: which tensors the file filled.

    Returns:
        File name, sha256 (empty where there is no file) and what matched.
    """
    path = Path(weights).expanduser()
    return {
        "name": path.name or "random",
        "sha256": sha256_of(path) if weights and path.is_file() else "",
        "matched": matched.replace(weights, path.name) if weights else matched,
    }


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out where files stand on this machine, because results travel.

    Args:
        config: a run's settings or a blueprint, as plain values.

    Returns:
        A copy with file names in place of paths.
    """
    plain: dict[str, Any] = json.loads(json.dumps(config))
    if "data" in plain:
        plain["data"] |= {"root": "", "cache": ""}
        sources = plain["data"]["also_train"]
        plain["data"]["also_train"] = [source.partition("=")[0] for source in sources]
    plain["model"]["weights"] = Path(plain["model"]["weights"]).name
    of_method = plain.get("method", {})
    # A method's settings that name a weight file end in this word.
    names = {n: Path(v).name for n, v in of_method.items() if n.endswith("_weights")}
    of_method |= names
    return plain
