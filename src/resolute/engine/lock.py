"""One process per run and per cell: a lock that the system takes back when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path) -> Iterator[int | None]:
    """Hold a lock file inside a block, if no other process holds it.

    The lock is the system's (flock), not the file: it ends with its process, even a killed one, so
    no file left behind is ever in the way. It works within one machine.

    Args:
        path: lock file; made if need be, removed afterwards.

    Yields:
        None when the lock is held here, else the process that holds it (0 where it does not say).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _open_locked(path)
    if file is None:
        yield holder(path)
        return
    try:
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        yield None
    finally:
        path.unlink(missing_ok=True)  # before the lock goes: see _open_locked
        os.close(file)


def holder(path: Path) -> int:
    """Return the process that holds a lock file by its own word.

    Args:
        path: lock file.

    Returns:
        The process, 0 where the file is gone or says nothing yet.
    """
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def is_held(path: Path) -> bool:
    """Tell whether a living process holds a lock file.

    Args:
        path: lock file.
    """
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _open_locked(path: Path) -> int | None:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return None
        # The file may have been removed by its last holder between opening and locking.
        if path.exists() and os.fstat(file).st_ino == path.stat().st_ino:
            return file
        os.close(file)
