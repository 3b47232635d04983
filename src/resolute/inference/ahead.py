"""Decode images in threads ahead of the network, in order, in bounded memory."""

import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import DatasetError

Pixels = NDArray[np.uint8]
Task = Callable[[], Pixels]

# Decoded bytes that may wait for the network: some 600 crops of 256 x 128 [ours].
WAITING_BYTES = 2**26
THREADS = 2


def decode_ahead(
    tasks: Iterable[Task], *, threads: int = THREADS, waiting_bytes: int = WAITING_BYTES
) -> Iterator[Pixels | DatasetError]:
    """Run decoding calls in threads and hand out what they give in the order of the calls.

    No call is begun while more than ``waiting_bytes`` of pixels wait, so memory is bounded by that
    plus one image per thread, however many calls there are and however large their images.

    Args:
        tasks: calls that return pixels or raise DatasetError.
        threads: images decoded at once; Pillow decodes without holding Python's lock.
        waiting_bytes: decoded bytes that may wait.

    Yields:
        Pixels, or the DatasetError that the call raised.
    """
    queue = _Queue(iter(tasks), threads, waiting_bytes)
    for _ in range(threads):
        # Daemons: a generator that nobody closed, say after Ctrl-C at a prompt, keeps no
        # interpreter from ending.
        threading.Thread(target=queue.work, name="decode", daemon=True).start()
    try:
        yield from queue.results()
    finally:
        queue.stop()


class _Queue:
    """Tasks are taken in order, so whoever waits for the next result never waits for room."""

    def __init__(self, tasks: Iterator[Task], threads: int, waiting_bytes: int) -> None:
        self._tasks = tasks
        self._limit = waiting_bytes
        self._changed = threading.Condition()
        self._done: dict[int, Pixels | DatasetError] = {}
        self._waiting = 0
        self._taken = 0
        self._running = threads
        self._is_stopped = False
        self._failure: Exception | None = None

    def work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                number, task = taken
                try:
                    result: Pixels | DatasetError = task()
                except DatasetError as error:
                    result = error
                self._put(number, result)
        except Exception as error:  # noqa: BLE001 (raised again where the result is waited for)
            self._failure = error
            self.stop()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def results(self) -> Iterator[Pixels | DatasetError]:
        number = 0
        while True:
            with self._changed:
                while number not in self._done and self._running:
                    self._changed.wait()
                if number not in self._done:
                    break
                result = self._done.pop(number)
                self._waiting -= _size(result)
                self._changed.notify_all()
            yield result
            number += 1
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _take(self) -> tuple[int, Task] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._waiting < self._limit)
            if self._is_stopped:
                return None
            task = next(self._tasks, None)
            if task is None:
                return None
            self._taken += 1
            return self._taken - 1, task

    def _put(self, number: int, result: Pixels | DatasetError) -> None:
        with self._changed:
            self._done[number] = result
            self._waiting += _size(result)
            self._changed.notify_all()


def _size(result: Pixels | DatasetError) -> int:
    return 0 if isinstance(result, DatasetError) else result.nbytes
