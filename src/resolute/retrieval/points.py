"""Images of a gallery as points of Qdrant, there and back."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.types import Embedding
from resolute.retrieval.types import Entry, Hit, Item, VectorSpace, Where

VECTOR = "fused"
# Everything but the picture, which would be most of the bytes of an answer.
SHOWN = [
    "order",
    "key",
    "camera",
    "time",
    "added",
    "reliability",
    "size",
    "quality",
    "norms",
    "has_thumbnail",
]


def payload_of(
    item: Item, embedding: Embedding, row: int, *, order: int, added: float
) -> dict[str, Any]:
    """Return what is stored beside the vector of an image.

    Args:
        item: the image.
        embedding: of N images.
        row: which of them it is.
        order: its id.
        added: now, seconds since the epoch.

    Returns:
        What JSON can hold. ``hr`` and ``lr`` are the weights divided by their length.
    """
    quality = embedding.quality[row].astype(np.float64)
    payload: dict[str, Any] = {
        "order": order,
        "key": item.key,
        "camera": item.camera,
        "time": item.time,
        "added": added,
        "age": added if item.time is None else min(item.time, added),
        "reliability": None if embedding.reliability is None else float(embedding.reliability[row]),
        "size": None if embedding.native_sizes is None else embedding.native_sizes[row].tolist(),
        "norms": None if embedding.norms is None else embedding.norms[row].tolist(),
        "quality": quality.tolist(),
        "has_thumbnail": item.thumbnail is not None,
        "thumbnail": None if item.thumbnail is None else base64.b64encode(item.thumbnail).decode(),
    }
    if len(quality) == 2:
        high, low = (quality / np.linalg.norm(quality)).tolist()
        payload |= {"hr": high, "lr": low, "theta": math.atan2(low, high)}
    return payload


def entry_of(payload: Mapping[str, Any]) -> Entry:
    """Read what is known of an image.

    Args:
        payload: of :func:`payload_of`.

    Returns:
        The entry.
    """
    size, norms = payload["size"], payload["norms"]
    return Entry(
        id=int(payload["order"]),
        key=payload["key"],
        camera=payload["camera"],
        time=payload["time"],
        added=float(payload["added"]),
        reliability=payload["reliability"],
        native_size=None if size is None else (int(size[0]), int(size[1])),
        quality=tuple(payload["quality"]),
        norms=None if norms is None else tuple(norms),
        has_thumbnail=payload["has_thumbnail"],
    )


def hit_of(
    payload: Mapping[str, Any], distance: float, streams: NDArray[np.float64], share: float
) -> Hit:
    """Word a found point.

    Args:
        payload: of :func:`payload_of`.
        distance: fused.
        streams: distance per stream, shape (S,).
        share: of the HR space.

    Returns:
        The hit.
    """
    entry = entry_of(payload)
    return Hit(
        key=entry.key,
        id=entry.id,
        distance=float(distance),
        stream_distances=tuple(streams.tolist()),
        hr_share=float(share),
        reliability=entry.reliability,
        camera=entry.camera,
        time=entry.time,
        native_size=entry.native_size,
    )


def recovered(space: VectorSpace, points: Sequence[Any]) -> Embedding:
    """Take the streams out of stored fused vectors: v = u n / w.

    Args:
        space: of the gallery.
        points: with payload and vectors.

    Returns:
        Their embedding, within float32 rounding of what was added.
    """
    shape = (len(points), space.num_streams, space.dim)
    fused = np.array([point.vector[VECTOR] for point in points]).reshape(shape)
    quality = np.array([p.payload["quality"] for p in points]).reshape(shape[:2])
    if space.num_streams == 2:
        fused = fused / (quality / np.linalg.norm(quality, axis=1, keepdims=True))[:, :, None]

    def gathered(field: str, dtype: Any) -> Any:
        values = [point.payload[field] for point in points]
        return None if None in values or not values else np.array(values, dtype=dtype)

    return Embedding(
        vectors=fused.astype(np.float32),
        quality=quality.astype(np.float32),
        metric=space.metric,
        fusion=space.fusion,
        constant=space.constant,
        norms=gathered("norms", np.float32),
        native_sizes=gathered("size", np.int64),
        reliability=gathered("reliability", np.float32),
        fingerprint=space.fingerprint,
    )


def filter_of(where: Where) -> Any:
    """Say conditions in Qdrant's words.

    Args:
        where: the conditions.

    Returns:
        A ``Filter``; None for no condition.
    """
    from qdrant_client import models

    if where.is_empty:
        return None
    must: list[Any] = []
    must_not: list[Any] = []
    for names, conditions in ((where.camera, must), (where.not_camera, must_not)):
        if names:
            one_of = models.MatchAny(any=list(names))
            conditions.append(models.FieldCondition(key="camera", match=one_of))
    if where.start is not None or where.end is not None:
        window = models.Range(gte=where.start, lt=where.end)
        must.append(models.FieldCondition(key="time", range=window))
    if where.min_reliability is not None:
        least = models.Range(gte=float(np.float32(where.min_reliability)))
        must.append(models.FieldCondition(key="reliability", range=least))
    return models.Filter(must=must or None, must_not=must_not or None)


def formula(quality: NDArray[np.float32]) -> Any:
    """Return the exact weighted similarity as a formula over the score and the stored weights.

    Args:
        quality: of the query, shape (2,).

    Returns:
        A ``FormulaQuery``: the score divided by rho.
    """
    from qdrant_client import models

    weights = quality.astype(np.float64)
    high, low = (weights / np.linalg.norm(weights)).tolist()
    rho = models.SumExpression(
        sum=[models.MultExpression(mult=[high, "hr"]), models.MultExpression(mult=[low, "lr"])]
    )
    ratio = models.DivParams(left="$score", right=rho, by_zero_default=0.0)
    return models.FormulaQuery(formula=models.DivExpression(div=ratio))
