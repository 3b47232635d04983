"""How often a client may ask: one bucket each, filled by time and emptied by requests."""

import time
from collections import OrderedDict
from collections.abc import Callable

# Clients remembered at once: those beyond are the longest silent, whose buckets are full again.
_MOST_CLIENTS = 10_000


class Buckets:
    """Token buckets, one per client; each holds one minute's worth.

    Args:
        rate: cost that flows in per minute; 0 for no limit.
        clock: seconds, rising.
    """

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, cost: float) -> float:
        """Take from a client's bucket.

        Args:
            client: its address.
            cost: of the request, at most what a full bucket holds is ever asked for.

        Returns:
            0 where it was there; else the seconds until it will be, and nothing is taken.
        """
        if not self._rate:
            return 0.0
        now = self._clock()
        cost = min(cost, self._rate)
        level, then = self._levels.pop(client, (self._rate, now))
        level = min(self._rate, level + (now - then) * self._rate / 60)
        wait = 0.0 if level >= cost else (cost - level) * 60 / self._rate
        self._levels[client] = (level if wait else level - cost, now)
        if len(self._levels) > _MOST_CLIENTS:
            self._levels.popitem(last=False)
        return wait
