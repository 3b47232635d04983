"""Open a gallery by the one word a person types: a folder, or a collection on a server."""

from pathlib import Path

from resolute.core.errors import ConfigError
from resolute.retrieval.accelerator import FaissAccelerator
from resolute.retrieval.client import connect
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.manifest import MANIFEST_NAME
from resolute.retrieval.qdrant import QdrantEngine
from resolute.retrieval.types import VectorSpace


def is_server(place: str | Path) -> bool:
    """Tell whether a place is on a server; else it is a folder.

    Args:
        place: a folder, or ``http://host:6333/collection`` of a Qdrant server.
    """
    return str(place).startswith(("http://", "https://"))


def is_gallery(place: str | Path, *, api_key: str | None = None) -> bool:
    """Tell whether there is a gallery.

    Args:
        place: a folder, or ``http://host:6333/collection`` of a Qdrant server.
        api_key: of the server.

    Returns:
        True also for a damaged one.
    """
    if not is_server(place):
        return (Path(place).expanduser() / MANIFEST_NAME).exists()
    url, name = _parted(str(place))
    client = connect(url, api_key=api_key)
    found: bool = client.collection_exists(name)
    client.close()
    return found


def open_gallery(
    place: str | Path,
    *,
    fingerprint: str | None = None,
    accelerator: FaissAccelerator | None = None,
    api_key: str | None = None,
) -> Gallery:
    """Open a gallery wherever it lies.

    Args:
        place: a folder, or ``http://host:6333/collection`` of a Qdrant server.
        fingerprint: of the model whose embeddings will come; None to check that later.
        accelerator: for a folder, see :meth:`Gallery.open`.
        api_key: of the server.

    Returns:
        The gallery.

    Raises:
        ConfigError: if the place is not understood, or an accelerator is given for a server.
    """
    if not is_server(place):
        return Gallery.open(place, fingerprint=fingerprint, accelerator=accelerator)
    if accelerator is not None:
        raise ConfigError(f"{place}: an accelerator is for a folder; a server has its own index")
    url, name = _parted(str(place))
    gallery = Gallery(QdrantEngine.open(connect(url, api_key=api_key), name))
    if fingerprint is not None:
        gallery.space.check_model(fingerprint)
    return gallery


def create_gallery(
    place: str | Path,
    *,
    space: VectorSpace,
    retention_days: float | None = None,
    api_key: str | None = None,
) -> Gallery:
    """Make an empty gallery.

    Args:
        place: a folder, or ``http://host:6333/collection`` of a Qdrant server.
        space: of the embeddings to come.
        retention_days: age in days after which :meth:`Gallery.expire` erases; None for never.
        api_key: of the server.

    Returns:
        The gallery.
    """
    if not is_server(place):
        return Gallery.create(place, space=space, retention_days=retention_days)
    url, name = _parted(str(place))
    client = connect(url, api_key=api_key)
    return Gallery(QdrantEngine.create(client, name, space=space, retention_days=retention_days))


def _parted(place: str) -> tuple[str, str]:
    url, _, name = place.rstrip("/").rpartition("/")
    if not name or "://" not in url or url.endswith(":/"):
        raise ConfigError(
            f"{place}: expected http://host:6333/collection, or a folder for the embedded engine"
        )
    return url, name
