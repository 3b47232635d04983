"""The MATLAB files of CUHK03: images and test sets (HDF5), lists of the new protocol (MATLAB 5).

h5py and scipy are needed here alone: ``pip install "resolute-reid[mat]"``.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import DatasetError
from resolute.core.matfile import read_mat
from resolute.data.counts import ROLES

_INSTALL = 'install it with: pip install "resolute-reid[mat]"'
# The real images are under 500 x 200; a larger claim is a damaged or hostile file [ours].
_MAX_SIDE = 4096


@dataclass(frozen=True, slots=True)
class MatSource:
    """Pixels of one image inside ``cuhk-03.mat``, read when asked for.

    Attributes:
        path: the HDF5 file.
        boxes: ``labeled`` or ``detected``.
        pair: camera pair, from 0.
        person: person within the pair, from 0.
        column: image of the person, from 0; 0-4 are view 1, 5-9 view 2.
    """

    path: Path
    boxes: str
    pair: int
    person: int
    column: int

    def pixels(self) -> NDArray[np.uint8]:
        """Read the image: RGB, shape (H, W, 3), 0..255.

        Raises:
            DatasetError: if the file is gone, damaged or holds something else there.
        """
        with _opened(self.path) as file:
            people = file[file[self.boxes][0, self.pair]]
            cell = file[people[self.column, self.person]]
            if not _is_image(cell):
                raise DatasetError(
                    f"{self}: expected a colour image of bytes, got {cell.dtype} {cell.shape}; "
                    "fetch the file again"
                )
            return np.ascontiguousarray(np.transpose(cell[()]))  # (3, W, H) on disk -> (H, W, 3)

    def token(self) -> str:
        """Return file, its size and time of change, and place in it, for cache keys.

        Raises:
            DatasetError: if the file is gone.
        """
        try:
            state = self.path.stat()
        except OSError as error:
            raise DatasetError(f"{self.path}: cannot be read: {error.strerror}") from error
        whole = replace(self, path=self.path.absolute())
        return f"{whole}:{state.st_size}:{state.st_mtime_ns}"

    def __str__(self) -> str:
        place = (self.boxes, self.pair, self.person, self.column)
        return "/".join((self.path.as_posix(), *map(str, place)))


def list_images(path: Path, boxes: str) -> list[MatSource]:
    """List the images in the raw file; empty cells are images that never were.

    Args:
        path: ``cuhk-03.mat``.
        boxes: ``labeled`` or ``detected``.

    Returns:
        Sources sorted by pair, person and image.

    Raises:
        DatasetError: if h5py is not installed or the file is damaged or another one.
    """
    with _opened(path) as file:
        sources: list[MatSource] = []
        for pair, reference in enumerate(file[boxes][0]):
            cells = file[reference][()]  # (10, people) references
            for person, column in np.ndindex(cells.shape[::-1]):
                if _is_image(file[cells[column, person]]):
                    sources.append(MatSource(path, boxes, pair, person, column))
    if not sources:
        raise DatasetError(f"{path}: no {boxes} image in it; fetch the file again")
    return sources


def read_test_sets(path: Path) -> list[list[tuple[int, int]]]:
    """Read the published test sets of the classic protocol.

    Args:
        path: ``cuhk-03.mat``.

    Returns:
        Per trial the (camera pair, person) of 100 people, both from 1.

    Raises:
        DatasetError: if h5py is not installed or the file is damaged or another one.
    """
    with _opened(path) as file:
        sets = [np.asarray(file[reference][()]).T for reference in file["testsets"][0]]
    if any(s.ndim != 2 or s.shape[1] != 2 for s in sets):
        raise DatasetError(f"{path}: testsets are not lists of pairs; fetch the file again")
    return [[(int(pair), int(person)) for pair, person in rows] for rows in sets]


def read_config(path: Path) -> dict[str, list[str]]:
    """Read the lists of the new protocol.

    Args:
        path: ``cuhk03_new_protocol_config_{detected,labeled}.mat``.

    Returns:
        Base names of the images by role, without suffix.

    Raises:
        DatasetError: if scipy is not installed or the file is damaged or another one; see
            :func:`resolute.core.matfile.read_mat` on files of strangers.
    """
    content = read_mat(path, remedy="fetch the file again")
    try:
        # By number from 1, as MATLAB counts; 0 is then an error and not the last name.
        names = dict(enumerate((_stem(cell) for cell in content["filelist"].ravel()), start=1))
        return {role: [names[int(i)] for i in content[f"{role}_idx"].ravel()] for role in ROLES}
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise DatasetError(
            f"{path}: not a list of the new protocol ({error!r}); fetch the file again"
        ) from error


def _stem(cell: Any) -> str:
    name = str(np.ravel(cell)[0])
    return re.sub(r"\.[a-z]+$", "", name, flags=re.IGNORECASE)


def _is_image(cell: Any) -> bool:
    shape = cell.shape
    return (
        len(shape) == 3
        and shape[0] == 3
        and min(shape) > 0
        and max(shape) <= _MAX_SIDE
        and cell.dtype == np.uint8
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    # What goes wrong inside the block is one DatasetError.
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(f"{path}: reading it needs h5py; {_INSTALL}") from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError:
        raise
    except (OSError, KeyError, ValueError, TypeError, IndexError, AttributeError,
            RuntimeError) as error:  # fmt: skip
        raise DatasetError(
            f"{path}: not the HDF5 file of CUHK03, or damaged ({error}); fetch the file again"
        ) from error
