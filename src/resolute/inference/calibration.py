"""What a distance and an image are worth: chances fitted on held-out people, kept with the model.

A network's distance is no chance. On people that the network never saw, the distances of pairs of
one person and of two are compared; what is fitted is the ratio of how likely a distance is under
each, as log odds at even prior odds. A user's own prior moves the odds, not the fit.

Letters: N images or pairs, S streams, K steps.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import CheckpointError, ConfigError, ProtocolError
from resolute.core.types import Embedding
from resolute.inference.logistic import sigmoid
from resolute.retrieval.types import VectorSpace

Floats = NDArray[np.float64]

CALIBRATION_NAME = "calibration.json"

# What reliability looks at; a norm only where the method gives one [ours].
FEATURES = ("log_height", "log_quality_ratio", "log_norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The distance below which a stated share of pairs of two people falls.

    Attributes:
        false_match_rate: share of pairs of two people that lie below the distance.
        distance: the threshold.
        match_rate: share of pairs of one person that lie below it.
        num_negatives: pairs of two people below it: fewer than 10 make it a guess.
    """

    false_match_rate: float
    distance: float
    match_rate: float
    num_negatives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Log odds that two images show one person, as a falling function of their distance.

    Attributes:
        kind: ``logistic``: a straight line in log odds; ``isotonic``: steps joined by lines.
        distances: two points of the line, or the K steps, rising.
        log_odds: at even prior odds, falling, same length.
        limit: largest size of the log odds: ln of the number of pairs of the rarer kind, because
            so many pairs support no stronger claim [ours].
    """

    kind: Literal["logistic", "isotonic"]
    distances: tuple[float, ...]
    log_odds: tuple[float, ...]
    limit: float

    def __call__(self, distance: NDArray[np.floating]) -> Floats:
        """Return the log odds at even prior odds.

        Args:
            distance: any shape.
        """
        x, y = self.distances, self.log_odds
        if self.kind == "logistic":
            slope = (y[1] - y[0]) / (x[1] - x[0])
            values = y[0] + slope * (np.asarray(distance, dtype=np.float64) - x[0])
        else:
            values = np.interp(distance, x, y)
        return np.clip(values, -self.limit, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityFit:
    """The chance that an image finds its person first, from what is known of it alone.

    An image of fewer lines than any in the fit counts by the share of them that it has, and one
    that shows nothing but one colour not at all [ours].

    Attributes:
        features: which of ``FEATURES`` it looks at.
        mean: of each feature, subtracted.
        scale: of each feature, divided by.
        coefficients: bias, then one per feature.
        lowest: smallest value of each feature in the fit; outside it nothing is extrapolated.
        highest: largest value of each feature in the fit.
        num_queries: images it was fitted on.
        num_gallery: images among which the match had to be first.
        rank1: share of the images whose match was first.
        log_loss: of the fit, nats per image.
        log_loss_constant: of always saying ``rank1``.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    num_queries: int
    num_gallery: int
    rank1: float
    log_loss: float
    log_loss_constant: float

    def __call__(self, embedding: Embedding) -> NDArray[np.float32]:
        """Return the reliability of images.

        Args:
            embedding: N images with native sizes, and norms if the fit looks at them.

        Returns:
            Chances in 0..1, shape (N,).
        """
        table = feature_table(embedding, self.features)
        table = np.clip(table, self.lowest, self.highest)
        scaled = (table - np.array(self.mean)) / np.array(self.scale)
        values = self.coefficients[0] + scaled @ np.array(self.coefficients[1:])
        fewest = math.exp(self.lowest[self.features.index("log_height")])
        seen = np.minimum(1, np.exp(feature_table(embedding, ("log_height",))[:, 0]) / fewest)
        return (sigmoid(values) * seen).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Everything that was fitted for one model on one data set.

    Attributes:
        data: printed name of the data it was fitted on.
        fingerprint: of the model; vectors of another one have other distances.
        metric: of the distances.
        fusion: of the distances.
        prior: stated chance of one person before looking, 0..1; callers may give their own.
        curve: from distance to log odds.
        num_same: pairs of one person.
        num_different: pairs of two people.
        heights: smallest, median and largest native height in the fit, in pixels.
        log_loss: of the curve at even prior odds, nats per pair; ln 2 = 0.69 knows nothing.
        log_loss_other: of the kind of curve not taken, on people held out of its fit.
        thresholds: distances at stated false-match rates.
        reliability: of single images; None where it could not be fitted.
        constant: share of the HR space in the distances, for the fusion ``constant``; None in files
            written before it was kept.
    """

    data: str
    fingerprint: str
    metric: str
    fusion: str
    prior: float
    curve: Curve
    num_same: int
    num_different: int
    heights: tuple[float, float, float]
    log_loss: float
    log_loss_other: float
    thresholds: tuple[Threshold, ...]
    reliability: ReliabilityFit | None
    constant: float | None = None

    def probability(
        self, distance: float | NDArray[np.floating], *, prior: float | None = None
    ) -> Floats:
        """Return the chance that two images show one person.

        Args:
            distance: of this model with this metric and fusion, any shape.
            prior: chance before looking, between 0 and 1; None takes the stated one. Of two
                images from a crowd of 1000 it is about 0.001.

        Returns:
            Chances in 0..1, same shape.

        Raises:
            ConfigError: if the prior is not between 0 and 1.
        """
        chance = self.prior if prior is None else prior
        if not 0 < chance < 1:
            raise ConfigError(f"prior: expected a chance between 0 and 1, got {chance}")
        return sigmoid(self.curve(np.asarray(distance)) + math.log(chance / (1 - chance)))

    def fits(self, compared: Embedding | VectorSpace) -> bool:
        """Tell whether distances of such embeddings are those that were fitted.

        Args:
            compared: of any model; those of no known one are taken for the calibration's.
        """
        if compared.fingerprint not in ("", self.fingerprint):
            return False
        if (compared.metric, compared.fusion) != (self.metric, self.fusion):
            return False
        return self.fusion != "constant" or compared.constant == self.constant

    def write(self, path: Path) -> None:
        """Write it as JSON, atomically.

        Args:
            path: the file, usually ``calibration.json`` beside the model.

        Raises:
            CheckpointError: if it cannot be written.
        """
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("w") as file:
                file.write(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CheckpointError(f"{path}: could not be written: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Read what :meth:`write` wrote.

        Args:
            path: the JSON file.

        Raises:
            CheckpointError: if the file cannot be read or is no calibration.
        """
        try:
            fields: dict[str, Any] = json.loads(path.read_text())
            return cls(
                **{
                    **fields,
                    "curve": Curve(**_tuples(fields["curve"])),
                    "heights": tuple(fields["heights"]),
                    "thresholds": tuple(Threshold(**t) for t in fields["thresholds"]),
                    "reliability": fields["reliability"]
                    and ReliabilityFit(**_tuples(fields["reliability"])),
                }
            )
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: no calibration of this version ({error}); fit it again: "
                "resolute calibrate RUN"
            ) from error


def feature_table(embedding: Embedding, names: tuple[str, ...]) -> Floats:
    """Gather what reliability looks at.

    Args:
        embedding: of N images.
        names: F of ``FEATURES``.

    Returns:
        One column per name, shape (N, F).

    Raises:
        ProtocolError: if the embeddings do not say their native sizes or norms.
    """
    if embedding.native_sizes is None:
        raise ProtocolError("reliability: expected embeddings with native sizes")
    columns: dict[str, Floats] = {
        "log_height": np.log(np.maximum(embedding.native_sizes[:, 0], 1).astype(np.float64))
    }
    if "log_quality_ratio" in names:
        quality = np.maximum(embedding.quality.astype(np.float64), 1e-6)
        columns["log_quality_ratio"] = np.log(quality[:, 0] / quality[:, 1])
    if "log_norm" in names:
        if embedding.norms is None:
            raise ProtocolError("reliability: expected embeddings with norms")
        norms = np.maximum(embedding.norms.astype(np.float64), 1e-6)
        columns["log_norm"] = np.log(norms).mean(axis=1)
    return np.column_stack([columns[name] for name in names])


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
