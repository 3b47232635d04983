"""Multi-resolution (MLR) sets: a pure function from records, policy and seed to records.

Nothing is written; the sources of LR images are wrapped by a down-sampling. One camera's images
lose resolution, in training and test alike; query is LR, gallery is HR [SING]. What papers do
beyond that differs, so every choice is a field and every preset says what is known of it.
Rates never depend on the trial: they are drawn over all LR-view images of the whole data set.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from resolute.core.errors import ConfigError, ProtocolError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Record, Resolution, Split
from resolute.data.degrade import Degraded, check_rate
from resolute.data.kernels import Kernel

ROUNDING = "floor"
STORAGE = "png"

Role = Literal["train", "query", "gallery"]
_ROLES: tuple[Role, ...] = ("train", "query", "gallery")


@dataclass(frozen=True, slots=True, kw_only=True)
class MlrPolicy:
    """How a multi-resolution set is made. Sizes are rounded down, storage is lossless PNG.

    Attributes:
        name: name of the preset this policy started from, part of the printed protocol; as an
            option it picks the preset.
        lr_view: which images form the LR view: ``fixed`` = the cameras ``lr_camids`` [SING];
            ``per_identity`` = one of each identity's cameras, drawn [VPFA on VIPeR];
            ``per_identity_and_role`` = the same, drawn again in training, query and gallery [VPFA
            on Market-1501]; ``per_camera_pair`` = one camera, drawn for each set of cameras that
            identities are seen by [ours].
        lr_camids: cameras of the LR view, counted from 0, for ``fixed``; empty only where the data
            set fills it in.
        exchange: take all cameras but ``lr_camids`` as the LR view [ours: to see whether a model
            learnt a camera].
        roles: roles in which LR-view images lose resolution [SING: training and query].
        query_set: ``lr`` = all LR-view test images are query and the others gallery [SING], but
            those of people whom no gallery image shows are dropped [ours]; ``official`` = the roles
            stay as the data set has them [VPFA on Market-1501]; ``lr_of_gallery`` = as ``lr``, of
            the data set's gallery images alone: its own queries are dropped [PS-HRNet].
        distractors: gallery images of identity 0 or -1 that no query has: ``hr`` = those of the
            HR view stay [assumed], ``all`` = the LR view's stay too, degraded if ``roles`` holds
            the gallery [PRPR], ``none`` = all are dropped [PS-HRNet].
        rate_rule: ``thirds`` = one permutation of all LR-view images of the whole split, cut in
            equal parts [SING]; ``per_image`` and ``per_identity`` = independent draws.
        rates: what height and width may be divided by [SING].
        kernel: how the pixels are resampled. [assumed: Pillow bicubic]
    """

    name: str = "default"
    lr_view: Literal["fixed", "per_identity", "per_identity_and_role", "per_camera_pair"] = "fixed"
    lr_camids: tuple[int, ...] = ()
    exchange: bool = False
    roles: tuple[Role, ...] = ("train", "query")
    query_set: Literal["lr", "official", "lr_of_gallery"] = "lr"
    distractors: Literal["hr", "all", "none"] = "hr"
    rate_rule: Literal["thirds", "per_image", "per_identity"] = "thirds"
    rates: tuple[float, ...] = (2.0, 3.0, 4.0)
    kernel: Kernel = field(default_factory=Kernel)

    def __post_init__(self) -> None:
        if not self.rates:
            raise ConfigError("mlr rates: expected at least one rate, got none")
        for rate in self.rates:
            check_rate(rate)
        if self.lr_view == "per_identity_and_role" and self.query_set != "official":
            raise ConfigError(
                "mlr lr_view: 'per_identity_and_role' draws by role, so it needs "
                "query_set = 'official'"
            )
        if (self.exchange or self.lr_camids) and self.lr_view != "fixed":
            raise ConfigError(
                "mlr lr_camids and exchange: only for lr_view = 'fixed', "
                f"{self.lr_view!r} draws the camera"
            )

    @staticmethod
    def presets() -> "Mapping[str, MlrPolicy]":
        """Return the policies that an option may name."""
        return PRESETS

    def label(self) -> str:
        """Return the printed protocol: policy, LR view, rate rule and kernel.

        A preset with a changed field says so, because its results compare with nothing else.
        """
        preset = PRESETS.get(self.name)
        name = self.name
        if preset is not None:
            # Where the preset names no camera, the data set does.
            like = preset if preset.lr_camids else replace(preset, lr_camids=self.lr_camids)
            name = self.name if self == like else f"{self.name}-changed"
        rates = ",".join(f"{rate:g}" for rate in self.rates)
        return f"{name}/lr={self._view()}/{self.rate_rule}({rates})/{self.kernel}"

    def _view(self) -> str:
        if self.lr_view != "fixed":
            return self.lr_view.replace("_", "-")
        cameras = "+".join(f"cam{camid}" for camid in self.lr_camids)
        return f"not-{cameras}" if self.exchange else cameras


PRESETS: dict[str, MlrPolicy] = {
    # The project's own: the data set names its LR camera (VIPeR cam_b, CUHK03 view 2).
    "default": MlrPolicy(),
    # The same with the views' roles exchanged: a large drop means that a camera was learnt.
    "exchanged": MlrPolicy(name="exchanged", exchange=True),
    # [SING, its work tree]: camera 0, exact thirds over all its images, one permutation.
    # Unknown: kernel (MATLAB or Caffe side) and rounding.
    "sing": MlrPolicy(name="sing", lr_camids=(0,)),
    # [PS-HRNet's log; MDIFF]: Market-1501 camera 3, 2825 query and 10290 gallery images: the
    # labelled ones of the gallery folder, no distractors, no official queries. Camera inferred
    # from the counts. Unknown: kernel, rate rule.
    "psrnet-camera3": MlrPolicy(
        name="psrnet-camera3",
        lr_camids=(2,),
        query_set="lr_of_gallery",
        distractors="none",
        rate_rule="per_image",
    ),
    # [PRPR's builder]: camera 1 everywhere, OpenCV INTER_LINEAR, a rate per image; query = its
    # images with identity > 0; distractors of all cameras stay. It re-saves as JPEG and keeps junk
    # images, we store PNG and drop junk at reading.
    "prpr-camera1": MlrPolicy(
        name="prpr-camera1",
        lr_camids=(0,),
        distractors="all",
        rate_rule="per_image",
        roles=_ROLES,
        kernel=Kernel(library="opencv", name="bilinear", antialias=False),
    ),
    # [VPFA's builder for Market-1501]: one camera per identity, drawn again in each folder, so
    # official query and gallery both mix HR and LR; Lanczos, a rate per image.
    "vpfa-market": MlrPolicy(
        name="vpfa-market",
        lr_view="per_identity_and_role",
        roles=_ROLES,
        query_set="official",
        distractors="all",
        rate_rule="per_image",
        kernel=Kernel(name="lanczos"),
    ),
    # [VPFA's builder for VIPeR]: a coin per identity names the LR view, one rate per identity.
    "vpfa-viper": MlrPolicy(name="vpfa-viper", lr_view="per_identity", rate_rule="per_identity"),
    # [VPFA's builder for CUHK03]: a coin per identity, a rate per image, Pillow bilinear, training
    # images untouched. It also writes one random gallery image per identity to disk; here that
    # is the protocol's draw.
    "vpfa-cuhk03": MlrPolicy(
        name="vpfa-cuhk03",
        lr_view="per_identity",
        roles=("query",),
        rate_rule="per_image",
        kernel=Kernel(name="bilinear"),
    ),
}


def build(split: Split, policy: MlrPolicy, *, streams: Streams) -> Split:
    """Make a multi-resolution split.

    Args:
        split: untouched records by role; its name is the data set's, a space
            and the trial, as readers write it.
        policy: which images lose how much resolution, and who is query.
        streams: source of the draws.

    Returns:
        Records with resolution, rate and wrapped source set, sorted by key within each role.

    Raises:
        ConfigError: if the policy names no LR camera or one that no image has.
        ProtocolError: if the split is already degraded, or leaves no query or no gallery.
    """
    _check_untouched(split)
    is_lr = _lr_view(split, policy, streams)
    rates = _rates(split, policy, is_lr, streams)

    def made(record: Record, role: Role) -> Record:
        if not is_lr(record, role) or role not in policy.roles:
            return replace(record, resolution=Resolution.HR)
        rate = rates[record.key]
        source = Degraded(record.source, rate, policy.kernel)
        return replace(record, resolution=Resolution.LR, rate=rate, source=source)

    query, gallery, num_dropped = _test_roles(split, policy, is_lr)
    data_set, _, trial = split.name.partition(" ")
    parts = (f"mlr-{data_set}", policy.label(), trial.replace(" ", ""))
    result = Split(
        name="/".join(part for part in parts if part),
        train=_sorted(made(r, "train") for r in split.train),
        query=_sorted(made(r, "query") for r in query),
        gallery=_sorted(made(r, "gallery") for r in gallery),
    )
    if not result.query or not result.gallery:
        raise ProtocolError(
            f"{result.name}: expected query and gallery images, got {len(result.query)} and "
            f"{len(result.gallery)}; is the LR view (cameras {policy.lr_camids}) the right one?"
        )
    notes = [*split.notes, *_notes(result)]
    if num_dropped:
        notes.append(f"{num_dropped} LR images dropped: no gallery image shows their people")
    return replace(result, notes=tuple(notes))


def with_query_rate(split: Split, rate: float) -> Split:
    """Rebuild all LR queries at one rate, from their originals.

    Args:
        split: what :func:`build` made.
        rate: what the originals' height and width are divided by; 8 is unseen in training, 1
            gives the untouched queries, which then are HR.

    Returns:
        The split with other queries; training and gallery records are the same.

    Raises:
        ConfigError: if the rate is below 1.
        ProtocolError: if there is no LR query, or one has no original here.
    """
    check_rate(rate)
    lr = [r for r in split.query if r.resolution is Resolution.LR]
    real = [r.key for r in lr if not isinstance(r.source, Degraded)]
    if not lr or real:
        raise ProtocolError(
            f"{split.name}: expected LR queries with originals, got {len(real)} of {len(lr)} "
            "without; build the split with `mlr` from the original data set"
        )
    return replace(
        split,
        name=f"{split.name}/query-rate={rate:g}",
        query=tuple(_at_rate(record, rate) for record in split.query),
    )


def originals(records: Iterable[Record]) -> tuple[Record, ...]:
    """Take the down-sampling off again; role, resolution and rate stay as drawn.

    Args:
        records: records as :func:`build` made them.

    Returns:
        The same records with untouched pixels, for rates drawn anew in training.
    """
    return tuple(
        replace(r, source=r.source.source) if isinstance(r.source, Degraded) else r for r in records
    )


IsLr = Callable[[Record, Role], bool]


def _check_untouched(split: Split) -> None:
    records = (*split.train, *split.query, *split.gallery)
    for record in records:
        if record.rate != 1 or isinstance(record.source, Degraded):
            raise ProtocolError(
                f"{split.name}: expected untouched images, but {record.key} is already at rate "
                f"{record.rate:g}; build from the original data set"
            )
    for record in records:
        if record.resolution is not Resolution.UNKNOWN:
            raise ProtocolError(
                f"{split.name}: expected images of unknown resolution, but {record.key} is "
                f"{record.resolution.value.upper()} as it came: use the data set as it is, "
                "without mlr- in front of its name"
            )


def _lr_view(split: Split, policy: MlrPolicy, streams: Streams) -> IsLr:
    """Decide for every image whether it belongs to the LR view."""
    if policy.lr_view == "fixed":
        return _fixed_view(split, policy)
    by_role = policy.lr_view == "per_identity_and_role"
    seen: dict[tuple[int, str], set[int]] = {}
    for role in _ROLES:
        for record in getattr(split, role):
            seen.setdefault((record.pid, role if by_role else ""), set()).add(record.camid)

    drawn: dict[tuple[int, str], int] = {}
    for (pid, group), camids in seen.items():
        cameras = sorted(camids)
        # A draw is addressed by who it is for, so that the trial or other images cannot move it.
        who: tuple[int | str, ...] = (str(pid), group)
        if policy.lr_view == "per_camera_pair":
            who = ("cameras", *cameras)
        drawn[pid, group] = cameras[streams.numpy(Stream.VIEW, *who).integers(len(cameras))]
    return lambda record, role: drawn[record.pid, role if by_role else ""] == record.camid


def _fixed_view(split: Split, policy: MlrPolicy) -> IsLr:
    present = sorted({r.camid for role in _ROLES for r in getattr(split, role)})
    chosen = set(policy.lr_camids)
    if not chosen or not chosen <= set(present):
        raise ConfigError(
            f"mlr lr_camids: expected some of the cameras {present} of {split.name} "
            f"(counted from 0), got {list(policy.lr_camids)}"
        )
    return lambda record, _: (record.camid in chosen) != policy.exchange


def _rates(split: Split, policy: MlrPolicy, is_lr: IsLr, streams: Streams) -> dict[str, float]:
    """Draw the rate of each LR-view image of the whole split, by key."""
    # One entry per key: some data sets list an image both as query and as gallery.
    images = {r.key: r for role in _ROLES for r in getattr(split, role) if is_lr(r, role)}
    keys, count = sorted(images), len(policy.rates)
    if policy.rate_rule == "thirds":
        order = streams.numpy(Stream.RATE, "thirds").permutation(len(keys))
        return {keys[i]: policy.rates[n * count // len(keys)] for n, i in enumerate(order)}
    drawn = {}
    for key in keys:
        who = key if policy.rate_rule == "per_image" else str(images[key].pid)
        rng = streams.numpy(Stream.RATE, policy.rate_rule, who)
        drawn[key] = policy.rates[rng.integers(count)]
    return drawn


def _test_roles(
    split: Split, policy: MlrPolicy, is_lr: IsLr
) -> tuple[Sequence[Record], Sequence[Record], int]:
    """Deal the test images to query and gallery, and count those that fit in neither."""
    asked = {r.pid for r in split.query}

    def keeps(record: Record, role: Role) -> bool:
        if record.pid > 0 or record.pid in asked or policy.distractors == "all":
            return True
        return policy.distractors == "hr" and not is_lr(record, role)

    gallery = [r for r in split.gallery if keeps(r, "gallery")]
    if policy.query_set == "official":
        return split.query, gallery, 0
    images: dict[str, tuple[Record, Role]] = {}
    if policy.query_set == "lr":
        images.update((r.key, (r, "query")) for r in split.query)
    images.update((r.key, (r, "gallery")) for r in gallery)
    query: list[Record] = []
    rest: list[Record] = []
    for record, role in images.values():
        is_query = is_lr(record, role) and (record.pid > 0 or record.pid in asked)
        (query if is_query else rest).append(record)
    shown = {r.pid for r in rest}
    answered = [r for r in query if r.pid in shown]
    return answered, rest, len(query) - len(answered)


def _at_rate(record: Record, rate: float) -> Record:
    if record.resolution is not Resolution.LR or not isinstance(record.source, Degraded):
        return record
    if rate == 1:
        return replace(record, resolution=Resolution.HR, rate=1.0, source=record.source.source)
    return replace(record, rate=float(rate), source=replace(record.source, rate=float(rate)))


def _sorted(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda r: r.key))


def _notes(split: Split) -> list[str]:
    """Say how many images lost how much, and which queries cannot be answered."""
    notes = []
    for role in _ROLES:
        records: Sequence[Record] = getattr(split, role)
        rates = Counter(r.rate for r in records if r.resolution is Resolution.LR)
        parts = ", ".join(f"{rates[rate]} at rate {rate:g}" for rate in sorted(rates))
        notes.append(f"{role}: {len(records)} images, {parts or 'none degraded'}")
    answered = {r.pid for r in split.gallery}
    lost = sum(r.pid not in answered for r in split.query)
    if lost:
        notes.append(f"{lost} queries have no gallery image of their identity")
    return notes
