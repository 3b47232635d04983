"""What the API answers, as JSON. The ``Attributes:`` are the descriptions in its OpenAPI.

Letters: N images, S streams (0 = HR space, 1 = LR space), D embedding.
"""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReply:
    """What was found out about one image.

    Attributes:
        native_size: (height, width) in pixels, as it came.
        quality: trust per stream, S numbers; only their ratio means anything.
        reliability: fitted chance in 0..1 that the image finds its match; null where none was
            fitted.
    """

    native_size: tuple[int, int] | None
    quality: list[float]
    reliability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorReply:
    """The embedding of one image.

    Attributes:
        native_size: (height, width) in pixels, as it came.
        quality: trust per stream, S numbers; only their ratio means anything.
        reliability: fitted chance in 0..1; null where none was fitted.
        fused: one vector of length 1 for other indexes, S * D numbers, or D where the fusion keeps
            one stream.
        streams: the vector of each stream, S times D numbers.
    """

    native_size: tuple[int, int] | None
    quality: list[float]
    reliability: float | None
    fused: list[float]
    streams: list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedReply:
    """Embeddings of the images of a request.

    Attributes:
        fingerprint: of the model; only vectors of equal fingerprints can be compared.
        metric: of the distance per stream.
        fusion: how the streams' distances join.
        images: one per image, in order.
    """

    fingerprint: str
    metric: str
    fusion: str
    images: list[VectorReply]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideReply:
    """One of two people compared.

    Attributes:
        num_images: images that show them.
        native_size: (height, width) in pixels of the largest.
        effective_height: lines that carry detail, in pixels.
        reliability: fitted chance in 0..1; null where none was fitted.
    """

    num_images: int
    native_size: tuple[int, int]
    effective_height: float
    reliability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareReply:
    """What the model says of two people.

    Attributes:
        distance: 0 for equal embeddings; smaller is more alike.
        probability: calibrated chance that both are one person; null where not calibrated.
        prior: chance before looking that it starts from.
        calibrated_on: data that the probability was fitted on.
        a: the first side.
        b: the second side.
        warnings: why not to trust this.
    """

    distance: float
    probability: float | None
    prior: float | None
    calibrated_on: str
    a: SideReply
    b: SideReply
    warnings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HitReply:
    """One candidate. It says how alike two images are, never who somebody is.

    Attributes:
        rank: 1 for the nearest.
        key: name of the image.
        id: number of the image, as in the audit log.
        distance: to the query, >= 0.
        stream_distances: per stream, S numbers.
        hr_share: share of the HR space in the distance, 0..1.
        probability: calibrated chance of one person; null where not calibrated.
        reliability: of the gallery image, 0..1; null where none was fitted.
        camera: its name; empty where unknown.
        time: when the image was taken, seconds since the epoch; null where unknown.
        native_size: (height, width) in pixels; null where unknown.
        thumbnail: where its picture is, relative to the server; null where none is kept.
    """

    rank: int
    key: str
    id: int
    distance: float
    stream_distances: list[float]
    hr_share: float
    probability: float | None
    reliability: float | None
    camera: str
    time: float | None
    native_size: tuple[int, int] | None
    thumbnail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReply:
    """Ranked candidates.

    Attributes:
        query: the images of the query, pooled to one.
        num_query_images: how many there were.
        hits: nearest first.
        exact: whether it is proven that no other image that passes is nearer.
        num_compared: images that passed the conditions.
        calibrated_on: data that the probabilities were fitted on; null where not calibrated.
        prior: chance before looking that they start from; null where not calibrated.
    """

    query: ImageReply
    num_query_images: int
    hits: list[HitReply]
    exact: bool
    num_compared: int
    calibrated_on: str | None
    prior: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddReply:
    """What was stored.

    Attributes:
        id: number of the image.
        key: its name.
        image: what was found out about it.
    """

    id: int
    key: str
    image: ImageReply


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """What to delete.

    Attributes:
        keys: names of the images.
        purge: erase the bytes now; else this happens within the hour.
    """

    # For the OpenAPI; the route has refused other names before.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    keys: list[str]
    purge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteReply:
    """What was deleted.

    Attributes:
        num_deleted: images that can no longer be found.
        num_purged: images whose bytes were erased, earlier deleted ones too.
    """

    num_deleted: int
    num_purged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryReply:
    """What the gallery keeps of an image besides vectors and picture.

    Attributes:
        key: its name.
        id: its number.
        camera: empty where unknown.
        time: when it was taken, seconds since the epoch; null where unknown.
        added: when it was added, seconds since the epoch.
        reliability: 0..1; null where none was fitted.
        native_size: (height, width) in pixels; null where unknown.
        thumbnail: where its picture is, relative to the server; null where none is kept.
    """

    key: str
    id: int
    camera: str
    time: float | None
    added: float
    reliability: float | None
    native_size: tuple[int, int] | None
    thumbnail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesReply:
    """A page of the gallery.

    Attributes:
        images: in the order they were added.
        next: ``start`` of the next page; null at the end.
    """

    images: list[EntryReply]
    next: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryReply:
    """What the server holds and allows.

    Attributes:
        num_images: images that can be found.
        num_deleted: deleted images whose bytes are not erased yet.
        num_bytes: size of the store.
        cameras: images per camera.
        first_time: earliest time of an image; null where no time is known.
        last_time: latest time of an image.
        retention_days: age in days after which images are erased; null for never.
        audit_days: age in days after which audit entries are erased.
        fingerprint: of the model.
        metric: of the distances.
        fusion: how the streams' distances join.
        num_streams: streams S.
        calibrated_on: data that probabilities are fitted on; null where not calibrated.
        is_read_only: whether adding and deleting are switched off.
        max_images: images per request.
        max_upload_bytes: size of a request.
    """

    num_images: int
    num_deleted: int
    num_bytes: int
    cameras: dict[str, int]
    first_time: float | None
    last_time: float | None
    retention_days: float | None
    audit_days: float
    fingerprint: str
    metric: str
    fusion: str
    num_streams: int
    calibrated_on: str | None
    is_read_only: bool
    max_images: int
    max_upload_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReply:
    """A page of the audit log.

    Attributes:
        events: oldest first, as they were written.
        num_events: events so far, erased ones too.
        head: sha256 of the last event; kept elsewhere it shows lines cut off later.
    """

    events: list[dict[str, Any]]
    num_events: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """Why a request was refused.

    Attributes:
        code: a word for programs.
        message: a sentence for people.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReply:
    """The answer to a request that was refused.

    Attributes:
        error: why.
    """

    error: ErrorBody


_HIT = {
    "rank": 1, "key": "cam0/0007_02.png", "id": 41, "distance": 0.4127,
    "stream_distances": [0.5311, 0.3502], "hr_share": 0.345, "probability": 0.083,
    "reliability": 0.81, "camera": "cam0", "time": 1767225600.0, "native_size": [128, 64],
    "thumbnail": "v1/thumbnail?key=cam0%2F0007_02.png",
}  # fmt: skip
_IMAGE = {"native_size": [38, 16], "quality": [0.31, 0.84], "reliability": 0.57}

EXAMPLES: dict[str, Any] = {
    "SearchReply": {
        "query": _IMAGE, "num_query_images": 1, "hits": [_HIT], "exact": True, "num_compared": 632,
        "calibrated_on": "mlr-viper trial 0", "prior": 0.01,
    },
    "HitReply": _HIT,
    "ImageReply": _IMAGE,
    "AddReply": {"id": 41, "key": "cam0/0007_02.png", "image": _IMAGE},
    "DeleteRequest": {"keys": ["cam0/0007_02.png"], "purge": True},
    "DeleteReply": {"num_deleted": 1, "num_purged": 1},
    "ErrorReply": {
        "error": {"code": "bad_image", "message": "image 1: the file is empty; replace it"}
    },
}  # fmt: skip
