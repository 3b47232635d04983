"""From what the library says to what the API answers."""

from collections.abc import Sequence
from urllib.parse import quote

from resolute.core.types import Embedding
from resolute.inference.calibration import Calibration
from resolute.inference.compare import Comparison, Side
from resolute.inference.one_vector import one_vector
from resolute.retrieval.types import Entry, Hit
from resolute.service.schemas import (
    CompareReply,
    EntryReply,
    HitReply,
    ImageReply,
    SideReply,
    VectorReply,
)


def thumbnail_link(key: str) -> str:
    """Return where a picture is served, relative to the server's root.

    Args:
        key: name of the image.
    """
    return f"v1/thumbnail?key={quote(key, safe='')}"


def image_reply(embedding: Embedding, position: int = 0) -> ImageReply:
    """Describe one embedded image.

    Args:
        embedding: of N images.
        position: which of them.
    """
    return ImageReply(
        native_size=_size(embedding, position),
        quality=embedding.quality[position].tolist(),
        reliability=_reliability(embedding, position),
    )


def vector_replies(embedding: Embedding) -> list[VectorReply]:
    """Write out embeddings.

    Args:
        embedding: of N images.
    """
    fused = one_vector(embedding)
    return [
        VectorReply(
            native_size=_size(embedding, i),
            quality=embedding.quality[i].tolist(),
            reliability=_reliability(embedding, i),
            fused=fused[i].tolist(),
            streams=embedding.vectors[i].tolist(),
        )
        for i in range(len(embedding))
    ]


def compare_reply(found: Comparison) -> CompareReply:
    """Write out a comparison.

    Args:
        found: by :func:`resolute.inference.compare.compare_pixels`.
    """
    return CompareReply(
        distance=found.distance,
        probability=found.probability,
        prior=found.prior,
        calibrated_on=found.calibrated_on,
        a=_side(found.a),
        b=_side(found.b),
        warnings=list(found.warnings),
    )


def hit_replies(
    hits: Sequence[Hit],
    has_picture: Sequence[bool],
    *,
    calibration: Calibration | None,
    prior: float | None,
) -> list[HitReply]:
    """Write out candidates.

    Args:
        hits: nearest first.
        has_picture: of each, whether a thumbnail is kept.
        calibration: of these distances; None where there is none.
        prior: chance before looking; None takes the calibration's.
    """
    return [
        HitReply(
            rank=rank,
            key=hit.key,
            id=hit.id,
            distance=hit.distance,
            stream_distances=list(hit.stream_distances),
            hr_share=hit.hr_share,
            probability=None
            if calibration is None
            else float(calibration.probability(hit.distance, prior=prior)),
            reliability=hit.reliability,
            camera=hit.camera,
            time=hit.time,
            native_size=hit.native_size,
            thumbnail=thumbnail_link(hit.key) if shown else None,
        )
        for rank, (hit, shown) in enumerate(zip(hits, has_picture, strict=True), start=1)
    ]


def entry_reply(entry: Entry) -> EntryReply:
    """Write out what the gallery keeps of an image.

    Args:
        entry: of the gallery.
    """
    return EntryReply(
        key=entry.key,
        id=entry.id,
        camera=entry.camera,
        time=entry.time,
        added=entry.added,
        reliability=entry.reliability,
        native_size=entry.native_size,
        thumbnail=thumbnail_link(entry.key) if entry.has_thumbnail else None,
    )


def _side(side: Side) -> SideReply:
    return SideReply(
        num_images=side.num_images,
        native_size=side.native_size,
        effective_height=side.effective_height,
        reliability=side.reliability,
    )


def _size(embedding: Embedding, position: int) -> tuple[int, int] | None:
    if embedding.native_sizes is None:
        return None
    height, width = embedding.native_sizes[position].tolist()
    return height, width


def _reliability(embedding: Embedding, position: int) -> float | None:
    return None if embedding.reliability is None else float(embedding.reliability[position])
