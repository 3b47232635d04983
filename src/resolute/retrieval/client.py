"""Clients of Qdrant servers, whose failures are worded as ours."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from resolute.core.errors import ConfigError, GalleryError


def connect(url: str, *, api_key: str | None = None) -> Any:
    """Make a client of a server, or of the memory of this process.

    Args:
        url: ``http://host:6333``, ``https://...``, or ``:memory:`` for tests.
        api_key: of the server, if it asks for one.

    Returns:
        A ``QdrantClient``, whose calls raise GalleryError where the server gives no answer or
        refuses.

    Raises:
        ConfigError: if the URL is none of these, or qdrant-client is not installed.
    """
    if url != ":memory:" and not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"qdrant: expected http://host:port, https://host:port or :memory:, got {url!r}; "
            "folders are the embedded engine's: the client's own disk format runs code when opened"
        )
    try:
        import qdrant_client
    except ImportError as error:
        raise ConfigError('qdrant needs its client: pip install "resolute-reid[qdrant]"') from error
    if url == ":memory:":
        return qdrant_client.QdrantClient(":memory:")
    return _Remote(qdrant_client.QdrantClient(url=url, api_key=api_key), url)


def check_client(client: Any) -> None:
    """Refuse a client that keeps a folder of its own.

    Args:
        client: a ``QdrantClient``.

    Raises:
        ConfigError: if it was made with ``path=``.
    """
    inner = getattr(client, "_client", None)
    if getattr(inner, "persistent", False):
        raise ConfigError(
            "qdrant: a client with path= is refused: its disk format runs code when opened; use "
            "the embedded engine for a folder, or a server"
        )


class _Remote:
    """A client whose failures are worded as ours."""

    def __init__(self, client: Any, url: str) -> None:
        self._inner = client
        self._url = url

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._worded(found) if callable(found) else found

    def _worded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        @wraps(call)
        def worded(*args: Any, **settings: Any) -> Any:
            try:
                return call(*args, **settings)
            except ResponseHandlingException as error:
                raise GalleryError(
                    f"qdrant at {self._url}: no answer ({error.source}); is the server running?"
                ) from error
            except UnexpectedResponse as error:
                raise GalleryError(
                    f"qdrant at {self._url}: refused: {error.status_code} {error.reason_phrase}"
                ) from error

        return worded
