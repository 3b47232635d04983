"""Read MATLAB 5 files, with what goes wrong as one error."""

import zlib
from pathlib import Path
from typing import Any

from resolute.core.errors import DatasetError


def read_mat(path: Path, *, remedy: str) -> dict[str, Any]:
    """Read the variables of a MATLAB 5 file.

    scipy's reader is compiled code that a crafted file can crash: read files of people you trust.

    Args:
        path: the file.
        remedy: what to do about a damaged one, for the message.

    Returns:
        Arrays by name.

    Raises:
        DatasetError: if scipy is not installed, or the file is missing or damaged.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise DatasetError(
            f'{path}: reading it needs scipy; install it with: pip install "resolute-reid[mat]"'
        ) from error
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    # What scipy was seen to raise on files with flipped bits.
    damaged = (MatReadError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError,
               ArithmeticError, NameError, MemoryError, RuntimeError, zlib.error)  # fmt: skip
    try:
        found: dict[str, Any] = loadmat(path)
    except damaged as error:
        raise DatasetError(f"{path}: not readable as MATLAB 5 ({error!r}); {remedy}") from error
    return found
