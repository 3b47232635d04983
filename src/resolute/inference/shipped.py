"""Models that come with the package, by name."""

from pathlib import Path

from resolute.core.config import unknown_name
from resolute.core.errors import CheckpointError

_FOLDER = Path(__file__).parents[1] / "shipped"


def shipped_names(folder: Path = _FOLDER) -> list[str]:
    """List the models that come with the package.

    Args:
        folder: where they lie, one folder each.

    Returns:
        Sorted names, for ``load(name)``; empty in an installation without any.
    """
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if (p / "model.safetensors").is_file())


def shipped_folder(name: str, folder: Path = _FOLDER) -> Path:
    """Find a model that comes with the package.

    Args:
        name: one of :func:`shipped_names`.
        folder: where they lie.

    Returns:
        Its run folder.

    Raises:
        CheckpointError: if there is none of that name; the message gives the nearest.
    """
    names = shipped_names(folder)
    if name not in names:
        known = unknown_name("model", name, names) if names else f"unknown model {name!r}"
        raise CheckpointError(
            f"{name}: no model there; train to the end, or give a run folder with "
            f"model.safetensors ({known})"
        )
    return folder / name


def is_shipped(file: Path) -> bool:
    """Tell whether a file lies in the folder of a model that comes with the package.

    Args:
        file: of a model; nothing is to be written beside it.
    """
    folder = file.resolve().parent
    return folder.name in shipped_names() and folder == shipped_folder(folder.name).resolve()
