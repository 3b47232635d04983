"""One thread that runs the network, for all requests: those that wait go through it together."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ReidError
from resolute.core.types import Embedding
from resolute.inference.model import Model
from resolute.retrieval.types import VectorSpace
from resolute.service.problem import Problem

Picture = tuple[NDArray[np.uint8], int]  # pixels (H, W, 3), resolution flag

# Decoded pixels that wait, in bytes: what the queue may cost in memory [ours].
_MOST_BYTES = 512 * 2**20
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    pictures: Sequence[Picture]
    future: Future[Embedding] = field(default_factory=Future)

    @property
    def num_bytes(self) -> int:
        return sum(pixels.nbytes for pixels, _ in self.pictures)


class Embedder:
    """A queue in front of a model.

    Args:
        model: embeds.
        space: of the gallery; embeddings are matched as it says.
        max_waiting: images in the queue before new ones are refused.
        batch_size: images per pass.
        told: is told the images and seconds of each pass.
    """

    def __init__(
        self,
        model: Model,
        *,
        space: VectorSpace,
        max_waiting: int = 256,
        batch_size: int = 32,
        told: Callable[[int, float], None] = lambda num_images, seconds: None,  # noqa: ARG005
    ) -> None:
        self._model = model
        self._space = space
        self._max_waiting = max_waiting
        self._batch_size = batch_size
        self._told = told
        self._jobs: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._num_waiting = 0
        self._num_bytes = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embed")

    @property
    def num_waiting(self) -> int:
        """Images whose pass has not begun."""
        return self._num_waiting

    def check_room(self) -> None:
        """Refuse before any work is done where the queue is full.

        Raises:
            Problem: 503, if it is.
        """
        if self._num_waiting >= self._max_waiting or self._num_bytes >= _MOST_BYTES:
            raise Problem(
                503, "busy", f"{self._num_waiting} images wait already: try again in a moment",
                {"Retry-After": "1"},
            )  # fmt: skip

    def submit(self, pictures: Sequence[Picture]) -> Future[Embedding]:
        """Queue the images of one request.

        Args:
            pictures: at least one pair of RGB pixels (H, W, 3), uint8, and resolution flag.

        Returns:
            Their embeddings, later.
        """
        job = _Job(tuple(pictures))
        with self._lock:
            self.check_room()
            self._jobs.append(job)
            self._num_waiting += len(job.pictures)
            self._num_bytes += job.num_bytes
        self._pool.submit(self._work).add_done_callback(_log_failure)
        return job.future

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._pool.shutdown(wait=True)

    def _work(self) -> None:
        # As many calls as jobs, but one call takes all that fit one pass: later ones find nothing.
        jobs = self._take()
        if not jobs:
            return
        try:
            self._run(jobs)
        except ReidError:
            # One request's image must not fail another's: each alone, then.
            for job in jobs:
                self._run_alone(job)
        finally:
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(RuntimeError("embedding failed"))

    def _take(self) -> list[_Job]:
        taken: list[_Job] = []
        size = 0
        with self._lock:
            while self._jobs and (
                not taken or size + len(self._jobs[0].pictures) <= self._batch_size
            ):
                job = self._jobs.popleft()
                size += len(job.pictures)
                self._num_bytes -= job.num_bytes
                # False where the client has gone: nobody waits for it.
                if job.future.set_running_or_notify_cancel():
                    taken.append(job)
            self._num_waiting = sum(len(job.pictures) for job in self._jobs)
        return taken

    def _run_alone(self, job: _Job) -> None:
        try:
            self._run([job])
        except ReidError as error:
            job.future.set_exception(error)

    def _run(self, jobs: Sequence[_Job]) -> None:
        begin = time.perf_counter()
        pictures = [picture for job in jobs for picture in job.pictures]
        embedding = self._model.embed_pixels(pictures, batch_size=self._batch_size)
        self._told(len(pictures), time.perf_counter() - begin)
        space = self._space
        embedding = replace(
            embedding, metric=space.metric, fusion=space.fusion, constant=space.constant
        )
        start = 0
        for job in jobs:
            end = start + len(job.pictures)
            job.future.set_result(embedding.take(slice(start, end)))
            start = end


def _log_failure(done: Future[None]) -> None:
    error = done.exception()
    if error is not None:
        _LOG.error("embedding failed", exc_info=error)
