"""The embedded data set ``synthetic``: drawn pedestrians, two cameras, no download.

It exists for the quick start, tests and benchmarks; every score on it has to say so. All of it
is ours, so it may ship.

Letters: H, W size of an image; its canvas is twice that.
"""

from dataclasses import dataclass

import numpy as np
import PIL
from numpy.typing import NDArray

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Record, Resolution, Split
from resolute.data.drawing.identity import Identity, draw_identity
from resolute.data.drawing.picture import draw_picture
from resolute.data.drawing.shot import CAMERAS, draw_shot

# Raise it whenever the same seed draws other pixels, so that no cache serves old ones.
DRAWING_VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticConfig:
    """What to draw.

    Attributes:
        num_identities: people, half of them for training; at least 2 [ours].
        images_per_camera: images of each person in each of the two cameras [ours].
        seed: fixes every person and every image; the split is drawn from the run's seed [ours].
    """

    num_identities: int = 500
    images_per_camera: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_identities < 2:
            raise ConfigError(
                "synthetic.num_identities: expected at least 2, one to train and one to test, "
                f"got {self.num_identities}"
            )
        if self.images_per_camera < 1:
            raise ConfigError(
                f"synthetic.images_per_camera: expected at least 1, got {self.images_per_camera}"
            )
        if self.seed < 0:
            raise ConfigError(f"synthetic.seed: expected 0 or more, got {self.seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSource:
    """An image that is drawn when it is asked for.

    Attributes:
        seed: of the data set.
        pid: who is drawn.
        camid: camera, 0 or 1.
        index: which image of this person by this camera.
    """

    seed: int
    pid: int
    camid: int
    index: int

    def pixels(self) -> NDArray[np.uint8]:
        """Draw the image: RGB, shape (H, W, 3), 0..255; H is 128..160."""
        camera = CAMERAS[self.camid]
        rng = Streams(self.seed).numpy(Stream.SYNTHETIC, self.pid, self.camid, self.index)
        shot = draw_shot(rng, camera)
        return draw_picture(identity_of(self.seed, self.pid), shot, camera, rng=rng)

    def token(self) -> str:
        """Name the drawing; Pillow is part of it because its rounding may change."""
        return (
            f"synthetic-{DRAWING_VERSION}-pillow-{PIL.__version__}"
            f"/{self.seed}/{self.pid}/{self.camid}/{self.index}"
        )


def identity_of(seed: int, pid: int) -> Identity:
    """Return the person behind a number.

    Args:
        seed: of the data set.
        pid: identity.

    Returns:
        Build, clothes and bag.
    """
    return draw_identity(Streams(seed).numpy(Stream.SYNTHETIC, pid))


def read(config: SyntheticConfig, *, trial: int, streams: Streams) -> Split:
    """List the records of the data set; nothing is drawn yet.

    A seeded half of the people trains; of the others, camera 1 asks and camera 0 answers. The
    resolution is left unknown: the MLR builder makes camera 1 the LR view.

    Args:
        config: what to draw.
        trial: which of the seeded halves.
        streams: of the run; the halves are drawn from it.

    Returns:
        Records sorted by key, ``cam0/0007_02.png``.
    """
    order = streams.numpy(Stream.SPLIT, trial).permutation(config.num_identities)
    trained = {int(pid) + 1 for pid in order[: config.num_identities // 2]}
    records = _records(config)
    test = [r for r in records if r.pid not in trained]
    name = f"synthetic-seed{config.seed}" if config.seed else "synthetic"
    return Split(
        name=f"{name} trial {trial}",
        train=tuple(r for r in records if r.pid in trained),
        query=tuple(r for r in test if r.camid == 1),
        gallery=tuple(r for r in test if r.camid == 0),
        notes=("drawn figures, no photographs: scores on them say nothing about real cameras",),
    )


def _records(config: SyntheticConfig) -> list[Record]:
    digits = max(4, len(str(config.num_identities)))
    return [
        Record(
            key=f"cam{camid}/{pid:0{digits}d}_{index:02d}.png",
            pid=pid,
            camid=camid,
            resolution=Resolution.UNKNOWN,
            source=SyntheticSource(seed=config.seed, pid=pid, camid=camid, index=index),
        )
        for camid in range(len(CAMERAS))
        for pid in range(1, config.num_identities + 1)  # 0 marks distractors everywhere
        for index in range(config.images_per_camera)
    ]
