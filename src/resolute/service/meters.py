"""What the server counts, in the text format of Prometheus."""

from collections.abc import Callable
from typing import Any

from resolute.core.errors import ConfigError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def missing(error: ImportError) -> str:
    """Word the error for a package that is not installed.

    Args:
        error: of the import.

    Returns:
        What is missing, and how to get it.
    """
    return f'{error.name} is missing: pip install "resolute-reid[serve]"'


class Meters:
    """Counters of one server.

    Args:
        num_images: tells how many images the gallery holds.
        num_waiting: tells how many images wait for the network.

    Raises:
        ConfigError: if prometheus-client is not installed.
    """

    def __init__(self, *, num_images: Callable[[], int], num_waiting: Callable[[], int]) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError as error:
            raise ConfigError(missing(error)) from None
        self._write: Callable[[Any], bytes] = prometheus.generate_latest
        self._registry = registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "resolute_requests", "Requests by route and status.", ["route", "code"],
            registry=registry,
        )  # fmt: skip
        self._seconds = prometheus.Histogram(
            "resolute_request_seconds", "Time from a request's head to its answer.", ["route"],
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._embed = prometheus.Histogram(
            "resolute_embed_seconds", "Time of one pass of the network.",
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._embedded = prometheus.Counter(
            "resolute_embedded_images", "Images embedded.", registry=registry
        )
        for name, text, source in (
            ("resolute_gallery_images", "Images that can be found.", num_images),
            ("resolute_queue_images", "Images that wait for the network.", num_waiting),
        ):
            prometheus.Gauge(name, text, registry=registry).set_function(source)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: one of the server's own paths, or ``other``.
            status: of the answer.
            seconds: it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def embedded(self, num_images: int, seconds: float) -> None:
        """Count a pass of the network.

        Args:
            num_images: in it.
            seconds: it took.
        """
        self._embedded.inc(num_images)
        self._embed.observe(seconds)

    def text(self) -> bytes:
        """Return all counts."""
        return self._write(self._registry)
