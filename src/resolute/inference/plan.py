"""What decides the content of an archive, so that nothing of another kind is mixed in."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resolute.core.config import unknown_name
from resolute.core.errors import CheckpointError, ConfigError
from resolute.inference.native import resolution_flags

FORMAT = 1
ON_ERROR = ("raise", "skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """How a folder is embedded.

    Attributes:
        resolution: ``hr``, ``lr`` or ``auto`` for all images.
        batch_size: images per forward pass.
        on_error: ``raise`` at the first image that cannot be decoded, or ``skip`` it: then it is
            counted and listed with its error.
        block_size: images per block: what a killed run loses at most [ours].
    """

    resolution: str = "auto"
    batch_size: int = 32
    on_error: str = "raise"
    block_size: int = 512

    def __post_init__(self) -> None:
        resolution_flags(self.resolution, 1)
        if self.on_error not in ON_ERROR:
            raise ConfigError(unknown_name("on_error", self.on_error, list(ON_ERROR)))
        for name in ("batch_size", "block_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every block of one archive has in common; blocks of another plan are refused.

    Attributes:
        format: of the files.
        fingerprint: of the model.
        calibration: sha256 of what reliability was computed with; empty without.
        metric: of the distances that the vectors are meant for.
        fusion: of these distances.
        constant: as in `Embedding`.
        images: sha256 over the sorted keys.
        num_images: how many keys.
        num_ignored: side files passed over.
        resolution: as asked.
        batch_size: images per forward pass.
        block_size: images per block.
    """

    format: int
    fingerprint: str
    calibration: str
    metric: str
    fusion: str
    constant: float
    images: str
    num_images: int
    num_ignored: int
    resolution: str
    batch_size: int
    block_size: int

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.num_images // self.block_size)

    def shard(self, number: int, count: int) -> range:
        """Return the blocks of one shard.

        Args:
            number: 0..count - 1.
            count: number of shards.

        Raises:
            ConfigError: if there is no such shard.
        """
        if count < 1 or not 0 <= number < count:
            raise ConfigError(f"shard: expected i/n with i from 0 to n - 1, got {number}/{count}")
        return range(number * self.num_blocks // count, (number + 1) * self.num_blocks // count)


def check_same(where: Path, found: Plan, plan: Plan) -> None:
    """Refuse to go on with what was begun otherwise.

    Args:
        where: what was begun.
        found: its plan.
        plan: what is asked for now.

    Raises:
        ConfigError: if they differ in more than side files.
    """
    words = {"fingerprint": "another model", "images": "another list of images"}
    for name in ("fingerprint", "images", *(asdict(plan))):
        if name == "num_ignored":
            continue
        before, now = getattr(found, name), getattr(plan, name)
        if before != now:
            what = words.get(name, f"{name} {before}, not {now}")
            raise ConfigError(f"{where}: was begun with {what}; choose another --out or remove it")


def plan_of(path: Path, text: dict[str, Any]) -> Plan:
    """Take the plan out of a manifest.

    Args:
        path: where it was read, for messages.
        text: the manifest.

    Raises:
        CheckpointError: if an entry is missing.
    """
    try:
        return Plan(**{name: text[name] for name in Plan.__dataclass_fields__})
    except KeyError as error:
        raise CheckpointError(f"{path}: not written by this version ({error} is missing)") from None
