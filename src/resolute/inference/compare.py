"""Is this one person? The distance, what it is worth, and whether the images can say at all."""

from collections.abc import Sequence
from dataclasses import dataclass

from resolute.core.distance import distance_matrix
from resolute.core.types import Embedding
from resolute.inference.calibration import Calibration
from resolute.inference.embed import Pixels
from resolute.inference.native import effective_height
from resolute.inference.pooling import pool
from resolute.retrieval.types import VectorSpace

# The strongest loss of resolution that the benchmarks train with: below a quarter of the height
# that a model was trained on, nothing it says was ever tried [ours].
_SMALLEST_SHARE = 4
_RELIABLE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two people compared.

    Attributes:
        num_images: how many images show them.
        native_size: (height, width) in pixels of the largest image.
        effective_height: lines of the most detailed image that carry detail, in pixels.
        reliability: fitted chance that the images find their person first; None where no fit.
    """

    num_images: int
    native_size: tuple[int, int]
    effective_height: float
    reliability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a model says of two people.

    Attributes:
        distance: 0 for equal embeddings; smaller is more alike.
        probability: chance that both are one person; None where the model is not calibrated.
        prior: chance before looking that it starts from; None without calibration.
        calibrated_on: data that the probability was fitted on; empty without.
        a: the first side.
        b: the second side.
        warnings: why not to trust this, in plain words; empty when there is no reason.
    """

    distance: float
    probability: float | None
    prior: float | None
    calibrated_on: str
    a: Side
    b: Side
    warnings: tuple[str, ...]


def compare_pixels(
    sides: tuple[Sequence[Pixels], Sequence[Pixels]],
    embedding: Embedding,
    *,
    calibration: Calibration | None,
    height_reference: float,
    prior: float | None = None,
) -> Comparison:
    """Compare two people from their pixels and embeddings.

    Args:
        sides: one or more images of each person, RGB, shape (H, W, 3), uint8.
        embedding: of the images of the first person, then of the second.
        calibration: of the model that embedded them, if it has one.
        height_reference: median native height of the model's HR training images, in pixels.
        prior: chance of one person before looking, between 0 and 1; None takes the calibration's.

    Returns:
        Distance, probability where it is known, sizes, and warnings.

    Raises:
        ConfigError: if the prior is not between 0 and 1.
    """
    num_first = len(sides[0])
    halves = (slice(num_first), slice(num_first, None))
    pooled = [pool(embedding.take(half)) for half in halves]
    distance = float(distance_matrix(*pooled)[0, 0])
    described = [_side(p, e) for p, e in zip(sides, pooled, strict=True)]
    warnings = [
        text
        for name, side in zip("ab", described, strict=True)
        for text in _warn(name, side, height_reference)
    ]
    if calibration is not None and not calibration.fits(embedding):
        warnings.append(why_no_probability(calibration, embedding))
        calibration = None
    if calibration is None:
        probability, prior, data = None, None, ""
    else:
        prior = calibration.prior if prior is None else prior
        probability = float(calibration.probability(distance, prior=prior))
        data = calibration.data
    return Comparison(
        distance=distance,
        probability=probability,
        prior=prior,
        calibrated_on=data,
        a=described[0],
        b=described[1],
        warnings=tuple(warnings),
    )


def why_no_probability(calibration: Calibration, compared: Embedding | VectorSpace) -> str:
    """Word why a calibration says nothing of distances that it does not fit.

    Args:
        calibration: of the model.
        compared: by other distances than those that were fitted.
    """
    text = (
        f"no probability: calibrated for {_distance_of(calibration)} distances, these are "
        f"{_distance_of(compared)}"
    )
    if calibration.fusion == compared.fusion == "constant" and calibration.constant is None:
        text += "; fitted before the share was kept, fit it again: resolute calibrate RUN"
    return text


def _distance_of(source: Calibration | Embedding | VectorSpace) -> str:
    is_shared = source.fusion == "constant" and source.constant is not None
    return f"{source.fusion}{f' {source.constant:g}' if is_shared else ''} {source.metric}"


def _side(pictures: Sequence[Pixels], embedding: Embedding) -> Side:
    height, width = max(pixels.shape[:2] for pixels in pictures)
    reliability = embedding.reliability
    return Side(
        num_images=len(pictures),
        native_size=(height, width),
        effective_height=max(effective_height(pixels) for pixels in pictures),
        reliability=None if reliability is None else float(reliability[0]),
    )


def _warn(name: str, side: Side, height_reference: float) -> list[str]:
    height = side.native_size[0]
    texts = []
    if side.effective_height < height:
        texts.append(
            f"{name}: {height} pixels high, but with the detail of about "
            f"{side.effective_height:.0f}: it looks enlarged or blurred"
        )
    if side.effective_height < height_reference / _SMALLEST_SHARE:
        texts.append(
            f"{name}: too small to say: detail of {side.effective_height:.0f} pixels of height, "
            f"trained on people of {height_reference:.0f}"
        )
    elif side.reliability is not None and side.reliability < _RELIABLE:
        texts.append(
            f"{name}: images like this found their person first in only "
            f"{100 * side.reliability:.0f} of 100 cases"
        )
    return texts
