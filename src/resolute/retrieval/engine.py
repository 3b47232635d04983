"""What a store of embeddings has to do for :class:`resolute.retrieval.gallery.Gallery`."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resolute.core.types import Embedding
from resolute.retrieval.types import Answer, Entry, Item, Stats, VectorSpace, Where


class Engine(Protocol):
    """A store with search. Arguments were checked by the gallery before they come here.

    What a writing call acknowledged by returning survives the end of the process.
    """

    @property
    def space(self) -> VectorSpace:
        """Return the space of the stored embeddings."""

    @property
    def retention_days(self) -> float | None:
        """Return the age in days after which images are to be erased; None for never."""

    def lock(self) -> None:
        """Become the one writer, or raise GalleryError; without effect for the writer."""

    def refresh(self) -> None:
        """See what other writers did since the store was opened."""

    def add(
        self, items: Sequence[Item], embedding: Embedding, *, added: float
    ) -> NDArray[np.int64]:
        """Store images whose keys are distinct; raise GalleryError where a key is there."""

    def search(self, query: Embedding, *, k: int, where: Where) -> list[Answer]:
        """Find the k nearest images of each query."""

    def contains(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each key whether an image of that name can be found."""

    def was_deleted(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each key whether an image of that name was deleted at some time."""

    def keys(self, where: Where) -> Iterator[str]:
        """Iterate over keys in the order they were added."""

    def entries(self, *, where: Where, start: int, limit: int | None) -> list[Entry]:
        """List images in the order they were added."""

    def entry(self, key: str) -> Entry:
        """Describe one image, or raise GalleryError."""

    def embedding(self, keys: Sequence[str]) -> Embedding:
        """Return stored embeddings, or raise GalleryError where a key is not there."""

    def thumbnail(self, key: str) -> bytes | None:
        """Return the picture of an image, or raise GalleryError where the key is not there."""

    def delete(self, keys: Sequence[str]) -> int:
        """Hide images of these keys from every later call; keys not there are passed over."""

    def delete_where(self, where: Where) -> int:
        """Hide the images that pass."""

    def delete_older(self, deadline: float) -> int:
        """Hide images whose time, or time of adding, lies before the deadline."""

    def purge(self) -> int:
        """Erase deleted images from every file; return how many."""

    def stats(self) -> Stats:
        """Count."""

    def verify(self) -> int:
        """Check every stored byte; return how many, or raise GalleryError."""

    def close(self) -> None:
        """Give back lock and files; only what is fixed is answered after, all else refused."""
