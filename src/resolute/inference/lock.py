"""Keep two processes from undoing each other's work."""

import errno
import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resolute.core.errors import DatasetError

# What disks answer that know no locks: some clusters' and networks'.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_LOG = logging.getLogger(__name__)


@contextmanager
def held(path: Path, *, is_shared: bool = False) -> Iterator[None]:
    """Hold a lock file for the length of a block; a killed process gives it back.

    Where the disk knows no locks this is logged, and the block runs all the same.

    Args:
        path: the file; it is made, with its folder, and stays.
        is_shared: let others in that share it, keep out only who wants it alone.

    Yields:
        Nothing.

    Raises:
        DatasetError: if another process holds it, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise DatasetError(f"{path}: could not be written: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(
                f"{path.parent}: another process works on this ({path.name}); wait for it or end it"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise DatasetError(f"{path}: cannot be locked: {error.strerror}") from error
            _LOG.warning("%s: no locks on this disk; see that no other process writes here", path)
        yield
