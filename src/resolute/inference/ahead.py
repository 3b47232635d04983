"""Decode images in threads ahead of the network, in order, in bounded memory."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import DatasetError

Pixels = NDArray[np.uint8]
Task = Callable[[], Pixels]

# Decoded bytes that may wait for the network: some 600 crops of 256 x 128 [ours].
WAITING_BYTES = 2**26
THREADS = 2
# Calls that may be taken before the result waited for: a few windows of small batches [ours].
_TAKEN = 1024


def decode_ahead(
    tasks: Iterable[Task],
    *,
    threads: int = THREADS,
    waiting_bytes: int = WAITING_BYTES,
    size: Callable[[Task], int] = lambda task: 0,  # noqa: ARG005
) -> Iterator[Pixels | DatasetError]:
    """Run decoding calls in threads and hand out what they give in the order of the calls.

    No call is begun while more than ``waiting_bytes`` of pixels wait, and none is taken while more
    than that is held for calls, so memory is bounded by twice that plus one image per thread,
    however many calls there are and however large their images.

    Args:
        tasks: calls that return pixels or raise DatasetError. They are taken in the thread that
            takes the results: what makes them may belong to it.
        threads: images decoded at once; Pillow decodes without holding Python's lock.
        waiting_bytes: decoded bytes that may wait, and as many that may wait to be decoded.
        size: bytes that a call holds until it is run.

    Yields:
        Pixels, or the DatasetError that the call raised.
    """
    queue = _Queue(waiting_bytes)
    for _ in range(threads):
        # Daemons: a generator that nobody closed, say after Ctrl-C at a prompt, keeps no
        # interpreter from ending.
        threading.Thread(target=queue.work, name="decode", daemon=True).start()
    try:
        yield from queue.results(iter(tasks), size)
    finally:
        queue.stop()


class _Queue:
    """Tasks are begun in order, so whoever waits for the next result never waits for room."""

    def __init__(self, waiting_bytes: int) -> None:
        self._limit = waiting_bytes
        self._changed = threading.Condition()
        self._tasks: deque[tuple[int, Task, int]] = deque()
        self._held = 0  # bytes of the tasks that have not been run
        self._done: dict[int, Pixels | DatasetError] = {}
        self._waiting = 0
        self._is_stopped = False
        self._failure: Exception | None = None

    def work(self) -> None:
        try:
            while (begun := self._begin()) is not None:
                number, task, held = begun
                try:
                    result: Pixels | DatasetError = task()
                except DatasetError as error:
                    result = error
                self._put(number, result, held)
        except Exception as error:  # noqa: BLE001 (raised again where the result is waited for)
            self._failure = error
            self.stop()

    def results(
        self, tasks: Iterator[Task], size: Callable[[Task], int]
    ) -> Iterator[Pixels | DatasetError]:
        number = taken = 0
        is_more = True
        while True:
            # One more for each that goes, and as many as there is time for while this one waits.
            while is_more and self._has_room(taken - number):
                task = next(tasks, None)
                if task is None:
                    is_more = False
                    break
                is_ready = self._take(taken, task, size(task), number)
                taken += 1
                if is_ready:
                    break
            if number == taken:
                return
            yield self._result(number)
            number += 1

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._tasks.clear()
            self._changed.notify_all()

    def _has_room(self, count: int) -> bool:
        with self._changed:
            is_small = self._held < self._limit and self._waiting < self._limit
            return not count or (is_small and count < _TAKEN and not self._is_stopped)

    def _take(self, number: int, task: Task, held: int, awaited: int) -> bool:
        with self._changed:
            self._tasks.append((number, task, held))
            self._held += held
            self._changed.notify_all()
            return awaited in self._done

    def _result(self, number: int) -> Pixels | DatasetError:
        with self._changed:
            self._changed.wait_for(lambda: number in self._done or self._is_stopped)
            if self._failure is not None and number not in self._done:
                raise self._failure
            result = self._done.pop(number)
            self._waiting -= _size(result)
            self._changed.notify_all()
            return result

    def _begin(self) -> tuple[int, Task, int] | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_stopped or (self._tasks and self._waiting < self._limit)
            )
            return None if self._is_stopped else self._tasks.popleft()

    def _put(self, number: int, result: Pixels | DatasetError, held: int) -> None:
        with self._changed:
            self._done[number] = result
            self._waiting += _size(result)
            self._held -= held
            self._changed.notify_all()


def _size(result: Pixels | DatasetError) -> int:
    return 0 if isinstance(result, DatasetError) else result.nbytes
