"""What a run changes about its process, for exactly as long as it lasts."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from resolute.core.config import check_threads


@contextmanager
def torch_settings(*, threads: int, device: torch.device) -> Iterator[int]:
    """Set torch's threads and determinism inside a block, and give back what was there before.

    On a CPU, the gradient of indexing adds up in whatever order threads arrive (seen with two
    threads and 64 x 512 features); deterministic mode fixes the order. It is a warning, not an
    error, where an operation has no fixed order. The global random state is the caller's again
    afterwards, too.

    Args:
        threads: CPU threads; 0 keeps torch's choice.
        device: where the run happens; other devices than the CPU keep their speed and promise no
            bits.

    Yields:
        The number of threads in use.

    Raises:
        ConfigError: if the number of threads is none.
    """
    check_threads(threads)
    before = torch.get_num_threads()
    mode = torch.get_deterministic_debug_mode()
    deterministic: Any = torch.utils.deterministic  # its property is hidden from type checkers
    fill = deterministic.fill_uninitialized_memory
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        try:
            if threads:
                torch.set_num_threads(threads)
            if device.type == "cpu":
                torch.set_deterministic_debug_mode("warn")
                # It would write into every fresh tensor: no use here, and slow.
                deterministic.fill_uninitialized_memory = False
            yield torch.get_num_threads()
        finally:
            torch.set_num_threads(before)
            torch.set_deterministic_debug_mode(mode)
            deterministic.fill_uninitialized_memory = fill


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Hold back Ctrl-C and SIGTERM inside a block, so that the step at hand can end.

    The second signal interrupts at once. Outside the main thread Python allows no handlers:
    nothing is held back there.

    Yields:
        A function that tells whether a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if came:
            raise KeyboardInterrupt
        came.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, remember) for number in numbers}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            # None: the handler was not set from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
