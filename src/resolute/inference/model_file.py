"""The model file that travels: weights and buffers under their own names, everything else as JSON.

It is one safetensors file (see :mod:`resolute.core.tensorfile`), so any reader of that format can
open it; loading it executes nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resolute.core.errors import CheckpointError
from resolute.core.tensorfile import read_document, read_tensors, section, write_tensors
from resolute.methods.contract import shipped_state


def save_model(path: Path, method: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a method's weights and buffers with what must travel with them, atomically.

    Args:
        path: file to write or replace.
        method: the trained method.
        metadata: what JSON can hold: ``input_spec``, ``config`` and so on; no training labels.

    Raises:
        CheckpointError: if the file cannot be written; the previous one is untouched then.
    """
    write_tensors(path, shipped_state(method), {"metadata": dict(metadata)}, kind="model")


def load_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a model file and verify its digest.

    Args:
        path: file of :func:`save_model`.

    Returns:
        The state dict, on the CPU, and the metadata.

    Raises:
        CheckpointError: if the file is missing, damaged or no model.
    """
    tensors, document = read_tensors(path, kind="model")
    return tensors, section(document, "metadata", where=str(path))


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a model file without its tensors and without verifying the digest.

    Args:
        path: file of :func:`save_model`.

    Returns:
        The metadata.

    Raises:
        CheckpointError: if the file is missing, has no readable header or is no model.
    """
    return section(read_document(path, kind="model"), "metadata", where=str(path))


def load_weights(method: nn.Module, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights and buffers into a method of exactly the same parts.

    Args:
        method: keeps its device and memory layout.
        weights: tensors by the names of ``method.state_dict()``.
        where: what the weights were read from, for messages.

    Raises:
        CheckpointError: if names or shapes differ.
    """
    own = method.state_dict()
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} is unknown" for name in weights if name not in own]
    faults += [
        f"{name}: expected shape {tuple(own[name].shape)}, got {tuple(weights[name].shape)}"
        for name in own
        if name in weights and own[name].shape != weights[name].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{where}: does not fit the method: {'; '.join(faults[:3])}{more}")
    method.load_state_dict(dict(weights))
