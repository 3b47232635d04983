"""Ranked strips: a query, the gallery images nearest to it, and which of them are right.

Letters: K hits, H, W height and width in pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resolute.core.types import Embedding, Labels, Record
from resolute.data.cache import PixelStore
from resolute.report.pairs import hr_share, reads_weights, relative_quality
from resolute.report.survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The query or the gallery side of a run.

    Attributes:
        records: N records.
        store: their pixels.
        embedding: of N images.
        labels: of N images.
    """

    records: tuple[Record, ...]
    store: PixelStore
    embedding: Embedding
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One image of a strip.

    Attributes:
        key: name of the image in its data set.
        pid: identity.
        camid: camera.
        size: native height and width in pixels.
        quality: weights of HR and LR space; None where distances do not read them.
        pixels: RGB, shape (H, W, 3), 0..255, native size.
    """

    key: str
    pid: int
    camid: int
    size: tuple[int, int]
    quality: tuple[float, float] | None
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One gallery image of a strip.

    Attributes:
        rank: in the whole gallery, counted from 1.
        shot: the image.
        is_match: whether it shows the query's person.
        distance: to the query.
        share: a / (a + b), share of the HR space in that distance; None without weights.
    """

    rank: int
    shot: Shot
    is_match: bool
    distance: float
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A query and what was found for it.

    Attributes:
        query: the query image.
        hits: the K nearest gallery images and, if none of them is a match, the nearest match
            behind them.
    """

    query: Shot
    hits: tuple[Hit, ...]

    @property
    def first_match(self) -> Hit | None:
        """The first hit that shows the query's person."""
        return next((hit for hit in self.hits if hit.is_match), None)


def make_strip(query: Side, gallery: Side, found: Survey, position: int) -> Strip:
    """Gather one query and its hits.

    Args:
        query: the query side.
        gallery: the gallery side.
        found: what a pass over their pairs found.
        position: of the query.

    Returns:
        The strip, with its own copy of the pixels.
    """
    pid = int(query.labels.pids[position])
    listed = [(rank, at) for rank, at in enumerate(found.hits[position].tolist(), 1) if at >= 0]
    matching = {at for _, at in listed if int(gallery.labels.pids[at]) == pid}
    distances = dict(zip(found.hits[position].tolist(), found.hit_distances[position], strict=True))
    behind = int(found.matches[position])
    if behind >= 0 and not matching:
        listed.append((int(found.list_ranks[position]), behind))
        distances[behind] = found.match_distances[position]
        matching = {behind}
    shares = _shares(query.embedding, gallery.embedding, position, [at for _, at in listed])
    return Strip(
        query=_shot(query, position),
        hits=tuple(
            Hit(
                rank=rank,
                shot=_shot(gallery, at),
                is_match=at in matching,
                distance=float(distances[at]),
                share=share,
            )
            for (rank, at), share in zip(listed, shares, strict=True)
        ),
    )


def _has_weights(embedding: Embedding) -> bool:
    return embedding.vectors.shape[1] == 2 and reads_weights(embedding.fusion)


def _shares(
    query: Embedding, gallery: Embedding, position: int, listed: list[int]
) -> list[float | None]:
    if not _has_weights(query):
        return [None] * len(listed)
    own = relative_quality(query.take(np.array([position])))[0]  # (2,)
    others = relative_quality(gallery.take(np.array(listed, dtype=np.int64)))  # (K, 2)
    return [float(share) for share in hr_share(own, others)]


def _shot(side: Side, position: int) -> Shot:
    record, quality = side.records[position], side.embedding.quality[position]
    has_weights = _has_weights(side.embedding)
    height, width = side.store.sizes[position].tolist()
    return Shot(
        key=record.key,
        pid=record.pid,
        camid=record.camid,
        size=(height, width),
        quality=(float(quality[0]), float(quality[1])) if has_weights else None,
        pixels=side.store.pixels(position).copy(),
    )
