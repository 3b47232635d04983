"""Is this one person? The distance, what it is worth, and whether the images can say at all."""

from collections.abc import Sequence
from dataclasses import dataclass

from resolute.core.distance import distance_matrix
from resolute.core.types import Embedding, short_fingerprint
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
class Look:
    """What the pixels of one image tell of it.

    Attributes:
        native_size: (height, width) in pixels.
        effective_height: lines that carry detail, in pixels.
    """

    native_size: tuple[int, int]
    effective_height: float


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
    described = [
        side_of([look_at(pixels) for pixels in pictures], one)
        for pictures, one in zip(sides, pooled, strict=True)
    ]
    warnings = [
        f"{name}: {text}"
        for name, side in zip("ab", described, strict=True)
        for text in doubts_about(side, height_reference)
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


def look_at(pixels: Pixels) -> Look:
    """Take from an image what is told of it, so that the pixels need not be kept.

    Args:
        pixels: RGB, shape (H, W, 3), uint8.

    Returns:
        Size and detail.
    """
    height, width = pixels.shape[:2]
    return Look(native_size=(height, width), effective_height=effective_height(pixels))


def side_of(looks: Sequence[Look], pooled: Embedding) -> Side:
    """Describe one person by all images that show them.

    Args:
        looks: one per image, at least one.
        pooled: the one embedding of these images.

    Returns:
        The largest size, the most detail, and the reliability where it was fitted.
    """
    reliability = pooled.reliability
    return Side(
        num_images=len(looks),
        native_size=max(look.native_size for look in looks),
        effective_height=max(look.effective_height for look in looks),
        reliability=None if reliability is None else float(reliability[0]),
    )


def doubts_about(side: Side, height_reference: float) -> list[str]:
    """Word why not to trust what a model says of a person.

    Args:
        side: the person.
        height_reference: median native height of the model's HR training images, in pixels.

    Returns:
        Warnings in plain words; empty when there is no reason.
    """
    height = side.native_size[0]
    texts = []
    if side.effective_height < height:
        texts.append(
            f"{height} pixels high, but with the detail of about "
            f"{side.effective_height:.0f}: it looks enlarged or blurred"
        )
    if side.effective_height < height_reference / _SMALLEST_SHARE:
        texts.append(
            f"too small to say: detail of {side.effective_height:.0f} pixels of height, "
            f"trained on people of {height_reference:.0f}"
        )
    elif side.reliability is not None and side.reliability < _RELIABLE:
        texts.append(
            "images like this found their person first in only "
            f"{100 * side.reliability:.0f} of 100 cases"
        )
    return texts


def why_no_probability(calibration: Calibration, compared: Embedding | VectorSpace) -> str:
    """Word why a calibration says nothing of distances that it does not fit.

    Args:
        calibration: of the model.
        compared: by other distances than those that were fitted.
    """
    if compared.fingerprint not in ("", calibration.fingerprint):
        return (
            f"no probability: calibrated for model {short_fingerprint(calibration.fingerprint)}, "
            f"these are of model {short_fingerprint(compared.fingerprint)}"
        )
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
