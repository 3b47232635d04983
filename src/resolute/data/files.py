"""Find data set folders and list their images, sorted, by base name, with nothing left unsaid."""

import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from resolute.core.errors import DatasetError

IMAGE_SUFFIX = r"\.(?:jpg|jpeg|png|bmp|webp)"

# What operating systems and authors leave beside images: hidden files, read-me files, lists.
_SIDE_FILE = re.compile(
    r"\..*|__macosx|@eadir|thumbs\.db|desktop\.ini|readme|licen[cs]e"
    r"|.*\.(?:txt|md|json|csv|html|pdf|mat)",
    re.IGNORECASE | re.DOTALL,
)


class NoLayoutError(DatasetError):
    """A folder holds none of the layouts a reader knows; other readers may still know it."""


def find_base(
    root: Path, spellings: Sequence[str], *, holds: Callable[[Path], bool], what: str
) -> Path:
    """Find a data set's own folder below (or at) what the user gave.

    Args:
        root: folder the user gave; ``~`` is expanded.
        spellings: folders below ``root`` to try in turn, ``.`` for ``root`` itself.
        holds: tells whether a folder holds the layout.
        what: name and layout of the data set, for the message.

    Returns:
        The first folder that holds the layout.

    Raises:
        DatasetError: if ``root`` is no folder that can be read.
        NoLayoutError: if no spelling holds the layout; the message lists those tried.
    """
    root = Path(root).expanduser()
    if not is_folder(root):
        raise DatasetError(f"{root}: no such folder; give the folder that holds {what}")
    for spelling in spellings:
        base = root / spelling
        if is_folder(base) and holds(base):
            return base
    tried = ", ".join("the folder itself" if s == "." else s for s in spellings)
    raise NoLayoutError(f"{root}: no {what} found; tried {tried}")


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder, a link to one included.

    Args:
        path: any path.

    Returns:
        False also for a broken or circular link.

    Raises:
        DatasetError: if the rights of the user do not allow to look.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}; check its rights") from error


def holds_any(folder: Path, pattern: re.Pattern[str]) -> bool:
    """Tell whether a folder holds a file of the given naming; stops at the first.

    Args:
        folder: any path.
        pattern: must match the whole base name.

    Returns:
        False also if there is no such folder.

    Raises:
        DatasetError: if the folder cannot be read.
    """
    return is_folder(folder) and any(map(pattern.fullmatch, _names(folder)))


def scan(folder: Path, pattern: re.Pattern[str], *, example: str) -> list[re.Match[str]]:
    """List the images of one folder, without its sub-folders, sorted by name.

    Side files (``Thumbs.db``, read-me files, lists, hidden files) are passed over. Everything
    else must be a non-empty file whose base name parses: an image left out in silence changes a
    score.

    Args:
        folder: a folder of images.
        pattern: naming; must match the whole base name.
        example: a name that would parse, for the message.

    Returns:
        One match per image; ``match.string`` is its base name.

    Raises:
        DatasetError: if the folder is missing or holds no image, or an entry is a folder, a
            broken link, an empty file, or has another name.
    """
    if not is_folder(folder):
        raise DatasetError(f"{folder}: no such folder; unpack the data set again")
    matches: list[re.Match[str]] = []
    odd: list[str] = []
    broken: list[str] = []
    for name in sorted(_names(folder)):
        if _SIDE_FILE.fullmatch(name):
            continue
        match = pattern.fullmatch(name)
        if match is None:
            odd.append(name)
        elif flaw := defect(folder / name):
            broken.append(f"{name} ({flaw})")
        else:
            matches.append(match)
    if odd:
        raise DatasetError(
            f"{folder}: {listed(odd)} not named like {example}; rename or remove what is no image "
            "of this data set"
        )
    if broken:
        raise DatasetError(f"{folder}: {listed(broken)} unusable; replace or remove")
    if not matches:
        raise DatasetError(f"{folder}: no images; expected names like {example}")
    return matches


def sub_folders(folder: Path) -> list[str]:
    """List the names of the folders inside a folder, hidden ones aside.

    Args:
        folder: an existing folder.

    Returns:
        Sorted names.

    Raises:
        DatasetError: if the folder cannot be read.
    """
    names = (name for name in _names(folder) if not _SIDE_FILE.fullmatch(name))
    return sorted(name for name in names if is_folder(folder / name))


def read_text(path: Path, *, max_bytes: int = 2**28) -> str:
    """Read a list file that belongs to a data set.

    Args:
        path: a text file.
        max_bytes: a larger file is refused.

    Returns:
        Its text.

    Raises:
        DatasetError: if the file is missing, too large or not UTF-8.
    """
    if flaw := defect(path):
        raise DatasetError(f"{path}: {flaw}; unpack the data set again")
    if path.stat().st_size > max_bytes:
        raise DatasetError(f"{path}: more than {max_bytes} bytes, which is no list of images")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as text: {error}") from error


def listed(names: Iterable[str], *, most: int = 3) -> str:
    """Word a list of names for a message, with a count and the first few.

    Args:
        names: at least one name.
        most: how many to spell out.

    Returns:
        For example ``5 files: a.jpg, b.jpg, c.jpg, ...``.
    """
    names = list(names)
    shown = ", ".join(n.encode("ascii", "backslashreplace").decode() for n in names[:most])
    return f"{len(names)} file{'s'[: len(names) > 1]}: {shown}{', ...'[: 5 * (len(names) > most)]}"


def defect(path: Path) -> str:
    """Say what is wrong with a file.

    Args:
        path: any path.

    Returns:
        Two words, empty for a regular file with content.
    """
    try:
        state = path.stat()
    except OSError:
        return "broken link" if path.is_symlink() else "not there"
    if not stat.S_ISREG(state.st_mode):
        return "not a file"
    return "" if state.st_size else "empty"


def _names(folder: Path) -> Iterator[str]:
    try:
        for entry in folder.iterdir():
            yield entry.name
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot be read: {error.strerror}; check its rights"
        ) from error
