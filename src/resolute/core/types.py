"""The nouns that travel between packages, without torch.

Letters: N images, S streams (0 = HR space, 1 = LR space), D embedding.
"""

import enum
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ConfigError, ProtocolError, ShapeError

_DIGEST_LENGTH = 64  # of a sha256 in hexadecimal


class Resolution(enum.Enum):
    """Which encoder an image belongs to. In MLR sets this comes from the view, never the size."""

    HR = "hr"
    LR = "lr"
    UNKNOWN = "unknown"


class Source(Protocol):
    """Where the pixels of a record come from."""

    def pixels(self) -> NDArray[np.uint8]:
        """Decode the image: RGB, shape (H, W, 3), 0..255, native size."""

    def token(self) -> str:
        """Return a text that changes whenever the pixels may have changed (cache key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One image, before any pixel is read.

    Attributes:
        key: name unique within its data set, a relative path with forward slashes.
        pid: identity. -1 is junk, 0 a distractor where a data set has them [Zheng 2015].
        camid: camera, counted from 0.
        resolution: HR, LR or unknown.
        source: where the pixels come from.
        rate: what the native size was divided by; 1 when the image is untouched.
    """

    key: str
    pid: int
    camid: int
    resolution: Resolution
    source: Source
    rate: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Records by role.

    Attributes:
        name: printed name of data set, protocol variant and trial.
        train: training records.
        query: query records.
        gallery: gallery records.
        notes: what a reader found worth saying: partial sets, dropped junk, counts.
    """

    name: str
    train: tuple[Record, ...]
    query: tuple[Record, ...]
    gallery: tuple[Record, ...]
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return the sha256 over role, key, identity, camera, resolution and rate of all records.

        Two results with the same digest and the same name were measured on the same images in
        the same roles; kernels and drawing seeds stand in the name alone.
        """
        text = hashlib.sha256()
        for role in ("train", "query", "gallery"):
            for r in getattr(self, role):
                line = f"{role}\t{r.key}\t{r.pid}\t{r.camid}\t{r.resolution.value}\t{r.rate:g}\n"
                text.update(line.encode())
        return text.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What an evaluation needs to know of N images besides their embeddings.

    Attributes:
        pids: identities, shape (N,).
        camids: cameras, shape (N,).
        rates: down-sampling rates, shape (N,); 1 for untouched images.
        heights: native heights in pixels, shape (N,); 0 where unknown.
    """

    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    rates: NDArray[np.float64]
    heights: NDArray[np.int64]

    def __post_init__(self) -> None:
        shapes = {np.shape(a) for a in (self.pids, self.camids, self.rates, self.heights)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ShapeError(f"labels: expected four arrays of one shape (N,), got {shapes}")

    def __len__(self) -> int:
        return len(self.pids)

    def take(self, index: NDArray[np.int64]) -> "Labels":
        """Return the labels at the given positions.

        Args:
            index: positions, shape (M,).
        """
        return Labels(
            pids=self.pids[index],
            camids=self.camids[index],
            rates=self.rates[index],
            heights=self.heights[index],
        )

    @classmethod
    def of(cls, records: Sequence[Record], heights: Iterable[int]) -> "Labels":
        """Gather the labels of records.

        Args:
            records: N records.
            heights: their native heights in pixels.
        """
        return cls(
            pids=np.array([r.pid for r in records], dtype=np.int64),
            camids=np.array([r.camid for r in records], dtype=np.int64),
            rates=np.array([r.rate for r in records], dtype=np.float64),
            heights=np.array(list(heights), dtype=np.int64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """How pixels become network input; travels with the weights.

    Attributes:
        height: input height in pixels.
        width: input width in pixels.
        mean: per RGB channel, subtracted after scaling pixels to 0..1.
        std: per RGB channel, divided by.
        interpolation: kernel used to reach the input size; always antialiased.
    """

    height: int = 256
    width: int = 128
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.height < 8 or self.width < 8:
            raise ConfigError(
                f"input size: expected 8x8 or more, got {self.height}x{self.width} (height x width)"
            )


def check_fingerprint(fingerprint: object) -> None:
    """Refuse a fingerprint that is no text.

    Args:
        fingerprint: a model's; empty where unknown.

    Raises:
        ConfigError: if it is something else.
    """
    if not isinstance(fingerprint, str):
        raise ConfigError(f"fingerprint: expected text, empty where unknown, got {fingerprint!r}")


def short_fingerprint(fingerprint: str) -> str:
    """Quote a fingerprint for a message.

    Args:
        fingerprint: a model's sha256, of which the beginning says enough, or a name.

    Examples:
        >>> short_fingerprint("0123456789abcdef" * 4), short_fingerprint("osnet_x1_0_msmt17")
        ("'0123456789ab'", "'osnet_x1_0_msmt17'")
    """
    is_digest = len(fingerprint) == _DIGEST_LENGTH and set(fingerprint) <= set("0123456789abcdef")
    return repr(fingerprint[:12] if is_digest else fingerprint[:_DIGEST_LENGTH])


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """What a method says of N images, and how two of them are to be compared.

    Attributes:
        vectors: shape (N, S, D), float32. Normalised by the method where its distance asks for it.
        quality: trust per stream, shape (N, S), float32, not negative. Only the ratio between the
            streams of one image means anything.
        metric: ``sqeuclidean`` or ``euclidean``, per stream.
        fusion: how the streams' distances join, see :mod:`resolute.core.distance`.
        constant: share of the HR space for the fusion ``constant``, 0..1.
        norms: length of each vector before it was normalised, shape (N, S); None where the method
            does not say.
        native_sizes: (height, width) in pixels of the images as they came, shape (N, 2); None where
            unknown.
        reliability: fitted chance in 0..1 that the image finds its match, shape (N,); None where
            none was fitted. Unlike the quality it can be compared between images [ours].
        fingerprint: of the model that made the vectors; empty where unknown. Distances between
            vectors of two models mean nothing, and are refused where both are known.
    """

    vectors: NDArray[np.float32]
    quality: NDArray[np.float32]
    metric: str = "sqeuclidean"
    fusion: str = "weighted"
    constant: float = 0.5
    norms: NDArray[np.float32] | None = None
    native_sizes: NDArray[np.int64] | None = None
    reliability: NDArray[np.float32] | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        check_fingerprint(self.fingerprint)
        if self.vectors.ndim != 3 or self.quality.shape != self.vectors.shape[:2]:
            raise ShapeError(
                "embedding: expected vectors (N, S, D) and quality (N, S), got "
                f"{self.vectors.shape} and {self.quality.shape}"
            )
        expected = {
            "norms": self.quality.shape,
            "native_sizes": (len(self.vectors), 2),
            "reliability": (len(self.vectors),),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ShapeError(f"embedding: expected {name} {shape}, got {value.shape}")

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, index: NDArray[np.int64] | slice) -> "Embedding":
        """Return the embeddings at the given positions.

        Args:
            index: positions, shape (M,).
        """
        taken: dict[str, Any] = {
            name: value[index] for name in _PER_IMAGE if (value := getattr(self, name)) is not None
        }
        return replace(self, **taken)

    @staticmethod
    def concatenate(parts: Sequence["Embedding"]) -> "Embedding":
        """Join embeddings of one method along N.

        Args:
            parts: at least one embedding, all with the same metric, fusion, optional arrays and
                fingerprint.

        Raises:
            ShapeError: if one part has an optional array that another lacks.
            ProtocolError: if their fingerprints differ.
        """
        made_by = sorted({part.fingerprint for part in parts})
        if len(made_by) > 1:
            raise ProtocolError(
                "embedding: expected parts of one model, got those of "
                f"{', '.join(map(short_fingerprint, made_by))}; give all parts one fingerprint if "
                "one model made them"
            )
        joined: dict[str, Any] = {}
        for name in _PER_IMAGE:
            values = [getattr(part, name) for part in parts]
            present = [value for value in values if value is not None]
            if present and len(present) < len(values):
                raise ShapeError(f"embedding: expected {name} in all parts or in none")
            joined[name] = np.concatenate(present) if present else None
        return replace(parts[0], **joined)


_PER_IMAGE = ("vectors", "quality", "norms", "native_sizes", "reliability")
