"""From settings to the records of one benchmark: read, degrade, hold out, merge.

Torch-free, because the settings are shown by ``--help``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Record, Resolution, Split
from resolute.data import synthetic
from resolute.data.catalogue import DATASETS, family, find_dataset, merge
from resolute.data.manifest import read_manifest, read_origin
from resolute.data.mlr import MlrPolicy, build
from resolute.data.synthetic import SyntheticConfig

MLR = "mlr-"
# A folder that `resolute mlr build` wrote.
WRITTEN = "mlr-written"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What is read, and which images are LR.

    Attributes:
        name: data set; with `mlr-` in front, its multi-low-resolution benchmark; `mlr-written` is
            a folder made by `resolute mlr build`.
        root: folder of the data set; every usual spelling is accepted.
        trial: which of the data set's splits, counted from 0; of `mlr-written` the one it was
            made of.
        seed: fixes splits, rates and gallery draws; apart from `train.seed`, so that runs with
            different seeds are scored on the same images; of `mlr-written` the one it was made
            with.
        validation: number of training identities held out, which then take the place of the
            test identities; 0 scores the test identities. Choices are made with this [ours].
        also_train: further sources as NAME=ROOT, for example mlr-cuhk03-p1=PATH, whose training
            records join; their identities and cameras stay apart, and each set with a usual LR
            camera keeps it. Query and gallery are never touched [ours].
        also_part: train = their training identities; all = their test identities too.
        cache: folder for decoded pixels; the user's cache folder when empty.
        mlr: which images lose how much resolution.
        synthetic: what to draw, for the data set `synthetic`.
    """

    name: str = "mlr-viper"
    root: str = ""
    trial: int = 0
    seed: int = 0
    validation: int = 0
    also_train: tuple[str, ...] = ()
    also_part: Literal["train", "all"] = "train"
    cache: str = ""
    mlr: MlrPolicy = field(default_factory=MlrPolicy)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    def __post_init__(self) -> None:
        for name in ("trial", "seed", "validation"):
            if getattr(self, name) < 0:
                raise ConfigError(f"data.{name}: expected >= 0, got {getattr(self, name)}")


def benchmark_names() -> list[str]:
    """List what ``data.name`` may be."""
    return [*DATASETS, *(MLR + name for name in DATASETS), WRITTEN]


def open_split(config: DataConfig) -> Split:
    """Read the records that settings ask for.

    Args:
        config: data set, root, trial, policy.

    Returns:
        Training, query and gallery records; notes say what is missing or was held out.

    Raises:
        ConfigError: if the name is unknown, the root is missing, the trial does not exist or is
            not that of a written set, or a set that joins may show people whom the run is tested
            on.
        DatasetError: if the data set cannot be read.
    """
    return joined(open_parts(config))


def open_parts(config: DataConfig) -> list[Split]:
    """Read the sets that settings ask for, each with its own numbers.

    Args:
        config: data set, root, trial, policy.

    Returns:
        The set that is scored, behind it those that join in training.

    Raises:
        ConfigError: as :func:`open_split`.
        DatasetError: if a data set cannot be read.
    """
    check_written(config)
    split = _open_one(config, config.name, config.root)
    if config.validation:
        split = hold_out(split, config.validation, streams=Streams(config.seed))
    return [split, *(_open_other(config, source) for source in config.also_train)]


def joined(parts: Sequence[Split]) -> Split:
    """Make one split of what :func:`open_parts` read.

    Args:
        parts: at least one.

    Raises:
        ConfigError: if two of them show people of one data set.
    """
    return merge(parts) if len(parts) > 1 else parts[0]


def check_written(config: DataConfig) -> None:
    """Have the settings of a written set name the trial and seed it was made with.

    Gallery draws and the cells of tables go by them. Other data sets pass.

    Args:
        config: settings.

    Raises:
        ConfigError: if trial or seed are others, or the root is missing.
        DatasetError: if there is no written set.
    """
    if config.name != WRITTEN:
        return
    origin = read_origin(_folder(config.name, config.root))
    for name in ("trial", "seed"):
        kept, asked = getattr(origin, name), getattr(config, name)
        if kept != asked:
            raise ConfigError(
                f"data.{name}: the set in {config.root} was made of {origin.name} with {name} "
                f"{kept}, got {asked}; ask for {kept}"
            )


def resolved_policy(config: DataConfig, name: str = "") -> MlrPolicy:
    """Return the policy with the data set's usual LR camera filled in.

    Args:
        config: settings.
        name: data set, ``config.name`` by default.

    Returns:
        The policy that :func:`open_split` builds with.

    Raises:
        ConfigError: if neither policy nor data set names an LR camera, or the data set's low
            resolution is real.
    """
    policy, base = config.mlr, (name or config.name).removeprefix(MLR)
    info = find_dataset(base)
    if info.has_real_lr:
        raise ConfigError(
            f"{base} has LR images of its own, nothing is to be shrunk: use --data.name {base}"
        )
    if policy.lr_view != "fixed" or policy.lr_camids:
        return policy
    lr_camid = info.lr_camid
    if lr_camid is None:
        raise ConfigError(
            f"{base} has no usual LR camera: name one with --data.mlr.lr_camids (from 0)"
        )
    return replace(policy, lr_camids=(lr_camid,))


def _open_one(config: DataConfig, name: str, root: str) -> Split:
    if name not in benchmark_names():
        raise ConfigError(unknown_name("data set", name, benchmark_names()))
    if name == WRITTEN:
        return read_manifest(_folder(name, root))
    streams = Streams(config.seed)
    base = name.removeprefix(MLR)
    info = find_dataset(base)
    if info.num_trials and config.trial >= info.num_trials:
        raise ConfigError(
            f"data.trial: {base} has trials 0 to {info.num_trials - 1}, got {config.trial}"
        )
    if info.has_files:
        split = info.read(_folder(name, root), trial=config.trial, streams=streams)
    else:
        split = synthetic.read(config.synthetic, trial=config.trial, streams=streams)
    if name.startswith(MLR):
        split = build(split, resolved_policy(config, name), streams=streams)
    return split


def _open_other(config: DataConfig, source: str) -> Split:
    """Read a set that joins in training, with its own LR camera.

    Raises:
        ConfigError: if the source is not NAME=ROOT, or may show people whom the run is tested on.
    """
    name, has_root, root = source.partition("=")
    if not has_root:
        raise ConfigError(f"data.also_train: expected NAME=ROOT, got {source!r}")
    if name != WRITTEN and family(name) == family(config.name):
        raise ConfigError(
            f"data.also_train: {name} shows people of {config.name}, who may be in its test part"
        )
    policy = config.mlr
    info = DATASETS.get(name.removeprefix(MLR))
    if info is not None and info.lr_camid is not None:
        policy = replace(policy, lr_camids=())  # cameras named for the first set are not its own
    split = _open_one(replace(config, trial=0, mlr=policy), name, root)
    return _with_test_part(split) if config.also_part == "all" else split


def _with_test_part(split: Split) -> Split:
    """Train on all identities of a split; its query and gallery are not used then."""
    records = {r.key: r for r in (*split.query, *split.gallery, *split.train) if r.pid > 0}
    return replace(
        split,
        name=f"{split.name}/part=all",
        train=tuple(records[key] for key in sorted(records)),
        notes=(*split.notes, "its test identities are trained on too"),
    )


def _folder(name: str, root: str) -> Path:
    if not root:
        raise ConfigError(f"data.root: {name} needs the folder of the data set")
    return Path(root).expanduser()


def hold_out(split: Split, num_identities: int, *, streams: Streams) -> Split:
    """Score training identities in place of the test identities.

    Args:
        split: a split whose training records have HR and LR images.
        num_identities: how many training identities to take away.
        streams: source of the draw.

    Returns:
        The split with the LR images of the held-out identities as query and their HR images as
        gallery. No test identity is left in it.

    Raises:
        ConfigError: if fewer identities have both HR and LR images, or none would be left.
    """
    seen: dict[int, set[Resolution]] = {}
    for r in split.train:
        seen.setdefault(r.pid, set()).add(r.resolution)
    both = sorted(pid for pid, found in seen.items() if {Resolution.HR, Resolution.LR} <= found)
    if len(both) <= num_identities:
        raise ConfigError(
            f"data.validation: {split.name} has {len(both)} training identities with HR and LR "
            f"images, cannot hold out {num_identities}"
        )
    order = streams.numpy(Stream.SPLIT, "validation", num_identities).permutation(len(both))
    held = {both[i] for i in order[:num_identities]}

    def of(resolution: Resolution) -> tuple[Record, ...]:
        return tuple(r for r in split.train if r.pid in held and r.resolution is resolution)

    return replace(
        split,
        name=f"{split.name}/validation={num_identities}",
        train=tuple(r for r in split.train if r.pid not in held),
        query=of(Resolution.LR),
        gallery=of(Resolution.HR),
        notes=(*split.notes, f"{num_identities} training identities take the test's place"),
    )
