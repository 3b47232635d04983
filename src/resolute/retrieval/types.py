"""The nouns of a gallery: what goes in, what is asked, what comes out.

Letters: N images, S streams (0 = HR space, 1 = LR space), D embedding.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

from resolute.core.config import unknown_name
from resolute.core.distance import FUSIONS, METRICS
from resolute.core.errors import ConfigError, GalleryError
from resolute.core.types import Embedding, check_fingerprint, short_fingerprint

LONGEST_TEXT = 1024  # bytes of a key or camera name: names, not documents
_SECONDS = "times are seconds since 1970, of a datetime its timestamp()"


def check_retention(days: float | None) -> None:
    """Refuse a retention that would erase everything at once.

    Args:
        days: age at which images are erased; None for never.

    Raises:
        ConfigError: if it is not above 0.
    """
    if days is not None and not (math.isfinite(days) and days > 0):
        raise ConfigError(f"retention: expected days above 0 or None, got {days}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSpace:
    """What embeddings must agree in to be compared. Fixed when a gallery is created.

    Attributes:
        fingerprint: names the model and the settings that change its vectors; empty where unknown.
        num_streams: streams S per image, 1 or 2.
        dim: numbers D per stream.
        metric: one of ``METRICS`` of :mod:`resolute.core.distance`.
        fusion: one of ``FUSIONS`` of :mod:`resolute.core.distance`.
        constant: share of the HR space for the fusion ``constant``, 0..1.
    """

    fingerprint: str
    num_streams: int
    dim: int
    metric: str = "sqeuclidean"
    fusion: str = "weighted"
    constant: float = 0.5

    def __post_init__(self) -> None:
        check_fingerprint(self.fingerprint)
        if self.num_streams not in (1, 2) or self.dim < 1:
            raise ConfigError(
                "vector space: expected 1 or 2 streams of at least 1 number, got "
                f"{self.num_streams} of {self.dim}; of a method with more streams, use a setting "
                "that joins them, such as method.matching vectors"
            )
        if self.metric not in METRICS:
            raise ConfigError(unknown_name("metric", self.metric, list(METRICS)))
        if self.fusion not in FUSIONS:
            raise ConfigError(unknown_name("fusion", self.fusion, list(FUSIONS)))
        if not 0 <= self.constant <= 1:
            raise ConfigError(f"constant: expected a share in 0..1, got {self.constant}")

    @classmethod
    def of(cls, embedding: Embedding, *, fingerprint: str | None = None) -> "VectorSpace":
        """Take the space that an embedding lies in.

        Args:
            embedding: of any images of the model.
            fingerprint: the model's; None takes the embedding's own.

        Returns:
            The space.
        """
        return cls(
            fingerprint=embedding.fingerprint if fingerprint is None else fingerprint,
            num_streams=embedding.vectors.shape[1],
            dim=embedding.vectors.shape[2],
            metric=embedding.metric,
            fusion=embedding.fusion,
            constant=float(embedding.constant),
        )

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model whose vectors lie in another space.

        Args:
            fingerprint: of the model.

        Raises:
            GalleryError: if it is not the one the gallery was made with.
        """
        if fingerprint != self.fingerprint:
            if not self.fingerprint:
                raise GalleryError(
                    f"gallery that names no model, got model {short_fingerprint(fingerprint)}: "
                    "whether their vectors can be compared is not known; name the model when the "
                    "gallery is made: VectorSpace.of(embedding, fingerprint=...)"
                )
            raise GalleryError(
                f"gallery made by model {short_fingerprint(self.fingerprint)}, got model "
                f"{short_fingerprint(fingerprint)}: their vectors cannot be compared; use the "
                "model the gallery was made with, or index the images again"
            )

    def check(self, embedding: Embedding) -> None:
        """Refuse an embedding of another space.

        Args:
            embedding: query or new images. Whoever gives one without a fingerprint vouches for it.

        Raises:
            GalleryError: if model, streams, numbers per stream, metric or fusion differ.
        """
        if embedding.fingerprint:
            self.check_model(embedding.fingerprint)
        other = VectorSpace.of(embedding, fingerprint=self.fingerprint)
        for name in ("num_streams", "dim", "metric", "fusion", "constant"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs and (name != "constant" or self.fusion == "constant"):
                raise GalleryError(
                    f"gallery: expected embeddings with {name} {ours!r}, got {theirs!r}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image to add, besides its embedding.

    Attributes:
        key: name unique in the gallery, for example a relative path; at most 1024 bytes of UTF-8.
        camera: name of the camera; empty where unknown.
        time: when the image was taken, seconds since the epoch; None where unknown.
        thumbnail: an encoded image to show, kept byte for byte; None for no picture.
    """

    key: str
    camera: str = ""
    time: float | None = None
    thumbnail: bytes | None = None

    def __post_init__(self) -> None:
        for name, text in (("key", self.key), ("camera", self.camera)):
            if not isinstance(text, str):
                raise GalleryError(f"{name}: expected text, got {text!r}; write str({text!r})")
            size = len(text.encode("utf-8", "surrogatepass"))
            broken = any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in text)
            if size > LONGEST_TEXT or broken or (name == "key" and not text):
                raise GalleryError(
                    f"{name}: expected {'1' if name == 'key' else '0'} to {LONGEST_TEXT} bytes of "
                    f"text without control characters, got {size} bytes: {text[:40]!r}"
                )
        if self.thumbnail == b"":
            raise GalleryError(f"{self.key}: expected a thumbnail or None, got no bytes")
        if self.time is not None and not _is_finite(self.time):
            raise GalleryError(
                f"{self.key}: expected a finite time or None, got {self.time!r}; {_SECONDS}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which gallery images may be found. Every condition given must hold.

    Attributes:
        camera: only images of these cameras; empty for any.
        not_camera: no image of these cameras.
        start: only images taken at this time or later, seconds since the epoch.
        end: only images taken before this time, >= ``start``.
        min_reliability: only images with at least this reliability, 0..1.

    An image whose time or reliability is unknown fails a condition on it.
    """

    camera: Sequence[str] = ()
    not_camera: Sequence[str] = ()
    start: float | None = None
    end: float | None = None
    min_reliability: float | None = None

    def __post_init__(self) -> None:
        for name in ("camera", "not_camera"):
            value = getattr(self, name)
            names = tuple(value) if isinstance(value, Iterable) else (value,)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else names)
            for camera in getattr(self, name):
                if not isinstance(camera, str):
                    raise ConfigError(f"where: expected {name} as text, got {camera!r}")
        for name in ("start", "end", "min_reliability"):
            value = getattr(self, name)
            if value is not None and not _is_finite(value):
                remedy = "" if name == "min_reliability" else f"; {_SECONDS}"
                raise ConfigError(f"where: expected a finite {name}, got {value!r}{remedy}")
        if self.min_reliability is not None and not 0 <= self.min_reliability <= 1:
            raise ConfigError(f"where: expected min_reliability 0..1, got {self.min_reliability}")
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ConfigError(
                f"where: expected start <= end, got {self.start} and {self.end}: no image passes"
            )

    @property
    def is_empty(self) -> bool:
        """Whether every image passes."""
        return self == Where()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a gallery keeps of one image besides vectors and thumbnail.

    Attributes:
        id: number given when it was added; never given again.
        key: its name.
        camera: name of the camera; empty where unknown.
        time: when it was taken, seconds since the epoch; None where unknown.
        added: when it was added, seconds since the epoch.
        reliability: 0..1; None where none was fitted.
        native_size: (height, width) in pixels as it came; None where unknown.
        quality: trust per stream, S numbers; only their ratio means anything.
        norms: length of each vector before it was normalised, S numbers; None where unknown.
        has_thumbnail: whether a picture is kept.
    """

    id: int
    key: str
    camera: str
    time: float | None
    added: float
    reliability: float | None
    native_size: tuple[int, int] | None
    quality: tuple[float, ...]
    norms: tuple[float, ...] | None
    has_thumbnail: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One found image.

    Attributes:
        key: its name.
        id: number given when it was added.
        distance: fused distance to the query, >= 0, float64 by the literal definition.
        stream_distances: distance per stream, S numbers: which stream decided.
        hr_share: share of the HR space in the distance, a / (a + b), 0..1; 1 with one stream.
        reliability: 0..1; None where none was fitted.
        camera: name of the camera; empty where unknown.
        time: when it was taken, seconds since the epoch; None where unknown.
        native_size: (height, width) in pixels as it came; None where unknown.
    """

    key: str
    id: int
    distance: float
    stream_distances: tuple[float, ...]
    hr_share: float
    reliability: float | None
    camera: str
    time: float | None
    native_size: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found for one query.

    Attributes:
        hits: nearest first; equal distances in the order they were added. Fewer than k only where
            fewer images pass the conditions.
        exact: True when it is proven that no image that passes is nearer than these.
        num_compared: images that passed the conditions.
        num_rescored: images whose distance was computed in float64.
    """

    hits: tuple[Hit, ...]
    exact: bool
    num_compared: int
    num_rescored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a gallery holds.

    Attributes:
        engine: ``embedded`` or ``qdrant``.
        space: of its embeddings.
        num_images: images that can be found.
        num_deleted: deleted images whose bytes are still stored until :meth:`Gallery.purge`.
        num_bytes: size of the store in bytes; 0 where a server keeps it.
        cameras: images per camera, sorted by name.
        first_time: earliest time of an image; None where no time is known.
        last_time: latest time of an image.
        retention_days: age in days after which :meth:`Gallery.expire` erases; None for never.
    """

    engine: str
    space: VectorSpace
    num_images: int
    num_deleted: int
    num_bytes: int
    cameras: Mapping[str, int] = field(default_factory=dict)
    first_time: float | None = None
    last_time: float | None = None
    retention_days: float | None = None


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
