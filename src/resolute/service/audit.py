"""The audit log: who searched, added and deleted what, when, in a chain that shows tampering.

One JSON line per event, in a file per day. Each line holds the sha256 of the one before, so a line
that is changed, left out or moved breaks the chain. Erasing old days is itself an event: it keeps
the number and the digest of the last line erased, where the chain then begins. Lines cut off at the
end leave no trace in the files; compare ``head`` with one kept elsewhere (the server logs it).
"""

import errno
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from resolute.core.errors import GalleryError

_START = "0" * 64
_SUFFIX = ".jsonl"
_ERASED = "erase-audit"
_FIELDS = {"num", "digest", "previous", "action"}


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends.

    Attributes:
        num: events so far, erased ones too; the number of the next one.
        digest: sha256 of the last one.
    """

    num: int = 0
    digest: str = _START


class AuditLog:
    """An audit log in a folder; one process writes it.

    Args:
        folder: made where it is missing.

    Raises:
        GalleryError: if another process writes it, or it cannot be read or is damaged at its end.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._mutex = threading.Lock()
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (self._folder / "lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise GalleryError(f"{folder}: audit log in use by another server") from None
        except OSError as error:
            raise GalleryError(f"{folder}: no audit log there: {error.strerror}") from None
        self._file: BinaryIO | None = None
        self._day = ""
        self._is_torn = False
        try:
            self._head = self._find_head()
        except GalleryError:
            self._lock.close()
            raise

    @property
    def head(self) -> Head:
        """Where the chain ends now."""
        return self._head

    def write(self, action: str, *, who: str, now: float | None = None, **facts: Any) -> Head:
        """Append an event; when this returns it is on the disk.

        Args:
            action: ``search``, ``add``, ``delete`` and so on.
            who: name of the token, or ``loopback``.
            now: seconds since the epoch; None for the clock's.
            **facts: what else is to be kept, as JSON holds it.

        Returns:
            The new end of the chain.

        Raises:
            GalleryError: if it cannot be written.
        """
        with self._mutex:
            moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
            event = {
                "num": self._head.num,
                "time": moment.isoformat(timespec="milliseconds"),
                "who": who,
                "action": action,
                **facts,
                "previous": self._head.digest,
            }
            event["digest"] = _digest(event)
            line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            # The clock may go back; the files stay in the order of the chain.
            self._append(line, max(self._day, moment.date().isoformat()))
            self._head = Head(self._head.num + 1, event["digest"])
            return self._head

    def expire(self, days: float, *, now: float | None = None) -> int:
        """Erase whole days older than the retention, and say so in the log.

        Args:
            days: age from which on a day is erased.
            now: seconds since the epoch; None for the clock's.

        Returns:
            How many events were erased.

        Raises:
            GalleryError: if the log is damaged, or cannot be written or erased.
        """
        now = time.time() if now is None else now
        first = (datetime.fromtimestamp(now, UTC) - timedelta(days=days)).date().isoformat()
        num_erased = 0
        for path in self._files():
            if path.stem >= first:
                break
            num_events, end = _tail(path)
            if not num_events:
                continue
            # Written to today's file, which is never this one: an idle log is erased as well.
            self.write(
                _ERASED, who="retention", now=now, num_events=num_events,
                last={"num": end.num - 1, "digest": end.digest},
            )  # fmt: skip
            # Only after the log says so: a crash in between leaves a day that the next call erases.
            try:
                with self._mutex:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise GalleryError(f"{path}: cannot be erased: {error.strerror}") from error
            num_erased += num_events
        return num_erased

    def page(self, *, start: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Read events, oldest first.

        Args:
            start: number of the first; None for the last ``limit`` events.
            limit: how many at most.

        Returns:
            Events as they were written.

        Raises:
            GalleryError: if a line is no event.
        """
        # Writers wait for this list alone: what they append meanwhile lies beyond these sizes.
        with self._mutex:
            first = max(self._head.num - limit, 0) if start is None else start
            sizes = [(path, path.stat().st_size) for path in self._files()]
        events = (event for path, size in sizes for event in _events(path, first=first, end=size))
        return list(islice(events, limit))

    def verify(self) -> Head:
        """Check the whole chain.

        Returns:
            Its end.

        Raises:
            GalleryError: if a line was changed, left out or moved, or days are missing that no
                event says were erased.
        """
        with self._mutex:
            return verify(self._folder)

    def close(self) -> None:
        """Give back the files."""
        with self._mutex:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._lock.close()

    def _append(self, line: bytes, day: str) -> None:
        if self._is_torn:
            raise GalleryError("audit log: holds an event that failed; start the server again")
        try:
            file = self._open(day)
            before = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                # The head has not moved: the next event takes the number of this one.
                self._is_torn = True
                file.truncate(before)
                self._is_torn = False
                raise
        except OSError as error:
            raise GalleryError(f"audit log: cannot be written: {error.strerror}") from error

    def _open(self, day: str) -> BinaryIO:
        if self._file is None or day != self._day:
            if self._file is not None:
                self._file.close()
            path = self._folder / f"{day}{_SUFFIX}"
            self._file = path.open("ab", buffering=0)
            path.chmod(0o600)
            _sync_folder(self._folder)
            self._day = day
        return self._file

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    def _find_head(self) -> Head:
        files = self._files()
        if not files:
            return Head()
        self._day = files[-1].stem
        _cut_torn_line(files[-1])
        for path in reversed(files):
            num_events, end = _tail(path)
            if num_events:
                return end
        return Head()


def verify(folder: str | Path) -> Head:
    """Check the chain of an audit log that no server writes to.

    Args:
        folder: of the log.

    Returns:
        Its end.

    Raises:
        GalleryError: as for :meth:`AuditLog.verify`.
    """
    head: Head | None = None
    begin = Head()
    erased: set[tuple[int, str]] = {(-1, _START)}
    for event in _chain(Path(folder)):
        if head is None:
            begin = Head(event["num"], event["previous"])
        elif (event["num"], event["previous"]) != (head.num, head.digest):
            raise GalleryError(
                f"audit log: expected event {head.num} to follow, got {event['num']} of another "
                "chain: lines were left out, moved or changed"
            )
        claimed = event.pop("digest")
        if _digest(event) != claimed:
            raise GalleryError(f"audit log: event {event['num']} was changed")
        if event["action"] == _ERASED:
            erased.add((event["last"]["num"], event["last"]["digest"]))
        head = Head(event["num"] + 1, claimed)
    if head is not None and (begin.num - 1, begin.digest) not in erased:
        raise GalleryError(
            f"audit log: begins at event {begin.num}, and no event says that earlier ones were "
            "erased"
        )
    return head or Head()


def hash_of(parts: Sequence[bytes]) -> str:
    """Name the images of a query without keeping them.

    Args:
        parts: bytes of their files, in order.

    Returns:
        sha256 over the digests of the parts.
    """
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(digests).hexdigest()


def _chain(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        yield from _events(path)


def _tail(path: Path) -> tuple[int, Head]:
    # How many events a file holds, and where the chain stands after them.
    num_events, end = 0, Head()
    for event in _events(path):
        num_events, end = num_events + 1, Head(event["num"] + 1, event["digest"])
    return num_events, end


def _events(path: Path, *, first: int = 0, end: int | None = None) -> Iterator[dict[str, Any]]:
    # From the first event of this number or a later one, up to this byte. One is held at a time.
    try:
        with path.open("rb") as file:
            stop = path.stat().st_size if end is None else end
            file.seek(_find(file, first, stop) if first else 0)
            while file.tell() < stop:
                yield _event(file)
    except FileNotFoundError:
        return  # erased since it was listed
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise GalleryError(f"{path}: damaged {error}") from None


def _find(file: BinaryIO, num: int, stop: int) -> int:
    # Numbers rise from line to line: halve the bytes in question until they begin at the line.
    low, high = 0, stop
    while low < high:
        middle = (low + high) // 2
        file.seek(max(middle - 1, 0))
        if middle:
            file.readline()  # the rest of the line before
        if file.tell() >= stop or _event(file)["num"] >= num:
            high = middle
        else:
            low = file.tell()
    return low


def _event(file: BinaryIO) -> dict[str, Any]:
    at = file.tell()
    try:
        event = json.loads(file.readline())
    except ValueError as error:
        raise ValueError(f"at byte {at}: {error}") from None
    if not isinstance(event, dict) or not event.keys() >= _FIELDS:
        raise ValueError(f"at byte {at}: no event")
    return event


def _digest(event: Mapping[str, Any]) -> str:
    text = json.dumps(event, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _cut_torn_line(path: Path) -> None:
    # A process killed while it wrote leaves half a line, which nobody was told is there.
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
