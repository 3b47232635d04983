"""How far a verb is with a folder of images, as its user sees it."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_EVERY_S = 10


class ImageProgress:
    """A bar with the rate on a terminal, a line every ten seconds elsewhere, both on stderr.

    Args:
        is_quiet: say nothing.
    """

    def __init__(self, *, is_quiet: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, quiet=is_quiet)
        self._start = time.monotonic()
        self._last = self._start
        self._first: int | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> "ImageProgress":
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        if self._console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("images", total=None)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def told(self, done: int, total: int, skipped: int = 0) -> None:
        """Show where the work stands.

        Args:
            done: images done.
            total: images of this call.
            skipped: of those done.
        """
        now = time.monotonic()
        # The first blocks may have come from an earlier call: the rate is that of the work here.
        if self._first is None:
            self._first = 0 if now - self._start > 1 else done
        words = []
        if done > self._first:
            rate = (done - self._first) / max(now - self._start, 1e-9)
            words.append(f"{rate:.0f} images/s")
        words += [f"{skipped} skipped"] if skipped else []
        if self._bar is not None:
            text = ", ".join(words)
            self._bar.update(self._task, completed=done, total=total, description=text)
        elif now - self._last > _LINE_EVERY_S or done == total:
            self._last = now
            self._console.print(", ".join([f"{done} of {total} images", *words]), highlight=False)
