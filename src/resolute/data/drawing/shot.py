"""What differs from image to image: pose, box, light and lens of one shot by one camera.

Two cameras look at two places in two lights [ours]. All numbers are uniform draws.
"""

from dataclasses import dataclass

import numpy as np

from resolute.data.drawing.identity import pick, uniform
from resolute.data.drawing.stage import Pose


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """What all images of one camera share.

    Attributes:
        place: which background it sees, ``plaza`` or ``street``.
        gains: factor per RGB channel: the colour cast.
        gain_spread: how far a shot's cast and light stray from that.
        contrast: range of the contrast factor.
        haze: grey value that low contrast pulls towards, 0..255.
        noise: range of the grain in grey levels.
        yaws: how often people are seen from front, right, back, left.
    """

    place: str
    gains: tuple[float, float, float]
    gain_spread: float
    contrast: tuple[float, float]
    haze: int
    noise: tuple[float, float]
    yaws: tuple[int, int, int, int]


CAMERAS = (
    Camera(
        place="plaza",
        gains=(1.06, 1.0, 0.9),
        gain_spread=0.12,
        contrast=(0.85, 1.1),
        haze=128,
        noise=(2.0, 5.0),
        yaws=(4, 2, 2, 2),
    ),
    Camera(
        place="street",
        gains=(0.86, 0.96, 1.08),
        gain_spread=0.14,
        contrast=(0.7, 0.95),
        haze=112,
        noise=(3.0, 7.0),
        yaws=(2, 2, 4, 2),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One image of one person, before it is drawn.

    Attributes:
        height: of the image in pixels.
        width: of the image in pixels.
        pose: how the person stands.
        body: height of the body as a share of the image.
        foot: row of the feet as a share of the image; over 1 cuts them off.
        across: column of the body as a share of the image.
        gains: factor per RGB channel: light and colour cast.
        contrast: factor on the distance from the haze.
        slope: how much lighter the right edge is than the left.
        blur: radius in pixels.
        noise: grain in grey levels.
        passer: where another person stands as a share of the width, or 0 for nobody.
        cover: what hides a part: ``none``, ``pole``, ``bonnet`` or ``bush``.
    """

    height: int
    width: int
    pose: Pose
    body: float
    foot: float
    across: float
    gains: tuple[float, float, float]
    contrast: float
    slope: float
    blur: float
    noise: float
    passer: float
    cover: str


def draw_shot(rng: np.random.Generator, camera: Camera) -> Shot:
    """Draw the circumstances of one image.

    Args:
        rng: the generator of this image.
        camera: who takes it.

    Returns:
        A complete description.
    """
    height = int(rng.integers(128, 161))
    turn = pick(rng, dict(zip((0, 90, 180, 270), camera.yaws, strict=True)))
    light = uniform(rng, 1 - camera.gain_spread, 1 + camera.gain_spread)
    half = camera.gain_spread / 2
    red, green, blue = (
        round(light * gain * uniform(rng, 1 - half, 1 + half), 4) for gain in camera.gains
    )
    return Shot(
        height=height,
        width=round(height * uniform(rng, 0.4, 0.5)),
        pose=Pose(
            yaw=turn + uniform(rng, -28, 28),
            phase=uniform(rng, 0, 1),
            stride=uniform(rng, 8, 26),
            swing=uniform(rng, 4, 26),
            lean=uniform(rng, -0.02, 0.02),
        ),
        body=uniform(rng, 0.82, 0.97),
        foot=uniform(rng, 0.95, 1.01),
        across=uniform(rng, 0.43, 0.57),
        gains=(red, green, blue),
        contrast=uniform(rng, *camera.contrast),
        slope=uniform(rng, -0.3, 0.3),
        blur=uniform(rng, 0.0, 0.6),
        noise=uniform(rng, *camera.noise),
        passer=pick(rng, {0.0: 8, 0.02: 1, 0.98: 1}),
        cover=pick(rng, {"none": 17, "pole": 1, "bonnet": 1, "bush": 1}),
    )
