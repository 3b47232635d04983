"""Embed a whole folder into one file: in blocks, resumable, on one machine or on many.

The sorted list of images is cut into blocks of one size. A block is embedded by itself and
written whole or not at all into ``OUT.parts``; shard i of n is a range of blocks, and the last
step joins all blocks. What shares a batch with what is therefore the same however the work was
divided, interrupted or repeated, and so are the bits, given one thread count and kind of machine.
Different shards may run at once; a whole run, a joining and each shard are one process's work.

Letters: N images, S streams, D embedding.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resolute.core.errors import CheckpointError, ConfigError, DatasetError
from resolute.core.types import Embedding
from resolute.core.version import __version__
from resolute.inference.block import GO_ON, Block, peek_block, write_atomically, write_block
from resolute.inference.folder import Listing, list_images, stamp_of, stream
from resolute.inference.joined import check_format, join
from resolute.inference.lock import held
from resolute.inference.model import Model
from resolute.inference.native import resolution_flags
from resolute.inference.plan import FORMAT, ArchiveOptions, Plan, check_same, plan_of

PLAN_NAME = "plan.json"
_LOG = logging.getLogger(__name__)


Told = Callable[[int, int, int], None]


def embed_folder(
    model: Model,
    folder: str | Path,
    out: str | Path,
    *,
    options: ArchiveOptions | None = None,
    shard: tuple[int, int] | None = None,
    told: Told = lambda done, total, skipped: None,  # noqa: ARG005
) -> dict[str, Any]:
    """Embed all images of a folder into one ``.npz`` or ``.parquet`` file, or one shard of them.

    Called again after an interruption it goes on; called again after the end it only reads the
    images, to see that they are the same.

    Args:
        model: embeds.
        folder: images, in sub-folders too.
        out: file to write; ``OUT.json`` beside it is its manifest, ``OUT.parts`` holds the blocks
            until all are there.
        options: how.
        shard: (i, n) embeds the i-th of n parts, counted from 0, and leaves the joining to
            :func:`merge`; None does everything.
        told: is called after each block with the images done, all images of this call, and how
            many were skipped.

    Returns:
        The manifest of the archive or of the shard.

    Raises:
        DatasetError: if an image cannot be read, a file cannot be written, or another process
            works on the same; what is done stays.
        ConfigError: if the options or the suffix are unknown, ``out`` was begun with another
            model, other images or other options, or it is finished and images have changed since
            or were skipped against the options.
        CheckpointError: if a block is damaged.
    """
    how = options or ArchiveOptions()
    out = Path(out).expanduser()
    check_format(out)
    listing = list_images(folder)
    if out.resolve().is_relative_to(listing.folder.resolve()):
        raise ConfigError(f"{out}: lies among the images of {folder}; write it somewhere else")
    probe = model.embed(np.full((64, 32, 3), 128, dtype=np.uint8))
    plan = _plan(model, listing, how, probe)
    number, count = shard or (0, 1)
    blocks = plan.shard(number, count)
    if (manifest := _finished(out, plan)) is None:
        with _turn(out, shard):
            # Again: another process may have been quicker.
            if (manifest := _finished(out, plan)) is None:
                parts = _parts(out)
                _begin(parts, plan)
                _embed_blocks(model, listing, parts, blocks, how, probe.take(slice(0)), told)
                if shard is None:
                    return _join(out)
                text = {"shard": number, "of": count, **_sum_up(parts, blocks, plan)}
                _write_json(parts / f"shard-{number}-of-{count}.json", text)
                return text
    _check_images(out, manifest, listing, plan, how)
    _remove_parts(out)
    return manifest


def merge(out: str | Path) -> dict[str, Any]:
    """Join the blocks of all shards into one file; the same bits as a single run.

    Args:
        out: what the shards were given; their ``OUT.parts`` folders were copied together if they
            ran on machines without a common disk.

    Returns:
        The manifest, which lies as ``OUT.json`` beside the file.

    Raises:
        ConfigError: if there is nothing to join.
        DatasetError: if blocks are missing, the file cannot be written, or another process works
            on the same.
        CheckpointError: if a block is damaged.
    """
    out = Path(out).expanduser()
    check_format(out)
    with _turn(out) if _parts(out).is_dir() else nullcontext():
        return _join(out)


@contextmanager
def _turn(out: Path, shard: tuple[int, int] | None = None) -> Iterator[None]:
    # A shard keeps out whoever wants all blocks, and whoever wants the same ones.
    number, count = shard or (0, 1)
    parts = _parts(out)
    with (
        held(parts / "lock", is_shared=shard is not None),
        held(parts / f"lock-{number}-of-{count}"),
    ):
        yield
    if out.is_file() and _manifest(out).is_file():
        _remove_parts(out)


def _remove_parts(out: Path) -> None:
    # Only without the locks: a network share keeps what somebody has open. What cannot be removed
    # does no harm, and the next call tries again.
    with suppress(OSError):
        shutil.rmtree(_parts(out))


def _join(out: Path) -> dict[str, Any]:
    parts = _parts(out)
    if not (parts / PLAN_NAME).is_file():
        manifest = _read_json(_manifest(out)) if _manifest(out).is_file() else None
        if manifest is not None and out.is_file():
            return manifest
        raise ConfigError(
            f"{parts}: no shards there; run: resolute embed DIR --shard i/n --out ..."
        )
    plan = _read_plan(parts)
    if (manifest := _finished(out, plan)) is not None:
        return manifest  # killed right after this very step
    missing = [b for b in range(plan.num_blocks) if not _block_path(parts, b).is_file()]
    if missing:
        raise DatasetError(
            f"{parts}: {len(missing)} of {plan.num_blocks} blocks are missing, the first is "
            f"{missing[0]}; run the shards that were not finished again"
        )
    summary = _sum_up(parts, range(plan.num_blocks), plan)
    head = {"fingerprint": plan.fingerprint, "metric": plan.metric, "fusion": plan.fusion,
            "constant": plan.constant}  # fmt: skip
    join(out, [_block_path(parts, b) for b in range(plan.num_blocks)], head)
    with out.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = {**summary, "file": out.name, "sha256": digest}
    _write_json(_manifest(out), manifest)
    return manifest


def _embed_blocks(
    model: Model,
    listing: Listing,
    parts: Path,
    blocks: range,
    how: ArchiveOptions,
    nothing: Embedding,
    told: Told,
) -> None:
    total = sum(len(_keys(listing, b, how)) for b in blocks)
    done = skipped = 0
    for number in blocks:
        keys = _keys(listing, number, how)
        # Before the pixels are read: what is replaced meanwhile is made again by the next call.
        stamp = stamp_of(listing, keys)
        path = _block_path(parts, number)
        errors = _kept(path, stamp, how)
        if errors is None:
            block = _embed_block(model, listing, keys, how, nothing)
            write_block(path, block, stamp)
            errors = block.skipped
        done, skipped = done + len(keys), skipped + len(errors)
        told(done, total, skipped)


def _kept(path: Path, stamp: str, how: ArchiveOptions) -> dict[str, str] | None:
    # What an earlier call skipped in this block, None if the block has to be made.
    if not path.is_file():
        return None
    try:
        head = peek_block(path)
    except CheckpointError as error:
        _LOG.warning("made again: %s", error)
        return None
    if head.stamp != stamp or (head.skipped and how.on_error == "raise"):
        return None
    return head.skipped


def _embed_block(
    model: Model, listing: Listing, keys: tuple[str, ...], how: ArchiveOptions, nothing: Embedding
) -> Block:
    (flag,) = resolution_flags(how.resolution, 1).tolist()
    kept: list[str] = []
    skipped: dict[str, str] = {}

    def pictures() -> Any:
        for picture in stream(listing.folder, keys, on_error=how.on_error):
            if picture.pixels is None:
                skipped[picture.key] = picture.error.replace(f"{listing.folder}/", "")
            else:
                kept.append(picture.key)
                yield picture.pixels, flag

    embedding = nothing
    found = pictures()
    first = next(found, None)
    if first is not None:
        embedding = model.embed_pixels(_chain(first, found), batch_size=how.batch_size)
    if len(embedding) != len(kept) or len(kept) + len(skipped) != len(keys):
        raise DatasetError(
            f"{listing.folder}: expected {len(keys)} images in this block, got {len(kept)} "
            f"embedded and {len(skipped)} skipped"
        )
    return Block(
        keys=tuple(kept),
        embedding=embedding,
        skipped=skipped,
        made_by=_made_by(model),
    )


def _made_by(model: Model) -> str:
    # The pixels are torch's work in every runtime.
    words = [f"torch {torch.__version__}", f"{torch.get_num_threads()} threads"]
    return ", ".join(words if model.runtime == "torch" else [model.runtime, *words])


def _chain(first: Any, rest: Any) -> Any:
    yield first
    yield from rest


def _plan(model: Model, listing: Listing, how: ArchiveOptions, probe: Embedding) -> Plan:
    fit = model.calibration.reliability if model.calibration else None
    text = json.dumps(asdict(fit), sort_keys=True) if fit else ""
    return Plan(
        format=FORMAT,
        fingerprint=model.fingerprint,
        calibration=hashlib.sha256(text.encode()).hexdigest() if text else "",
        metric=probe.metric,
        fusion=probe.fusion,
        constant=probe.constant,
        images=hashlib.sha256("\n".join(listing.keys).encode()).hexdigest(),
        num_images=len(listing.keys),
        num_ignored=listing.num_ignored,
        resolution=how.resolution,
        batch_size=how.batch_size,
        block_size=how.block_size,
    )


def _begin(parts: Path, plan: Plan) -> None:
    parts.mkdir(parents=True, exist_ok=True)
    if not (parts / PLAN_NAME).is_file():
        _write_json(parts / PLAN_NAME, asdict(plan))
    check_same(parts, _read_plan(parts), plan)


def _finished(out: Path, plan: Plan) -> dict[str, Any] | None:
    if not out.is_file():
        return None
    if not _manifest(out).is_file():
        if _parts(out).is_dir():
            return None  # killed between the last two steps
        raise ConfigError(f"{out}: is there already and has no manifest; choose another name")
    manifest = _read_json(_manifest(out))
    check_same(out, plan_of(out, manifest), plan)
    return manifest


def _check_images(
    out: Path, manifest: dict[str, Any], listing: Listing, plan: Plan, how: ArchiveOptions
) -> None:
    # The first archives kept no digest of their images, or one of sizes under another name.
    known = manifest.get("contents")
    stamps = (stamp_of(listing, _keys(listing, b, how)) for b in range(plan.num_blocks))
    if known is not None and known != _digest(stamps):
        raise ConfigError(f"{out}: images have changed since; remove it or choose another --out")
    if manifest["skipped"] and how.on_error == "raise":
        key, reason = next(iter(manifest["skipped"].items()))
        raise ConfigError(
            f"{out}: {len(manifest['skipped'])} images were skipped, first {key} ({reason}); keep "
            "it with --on-error skip, or mend them and choose another --out or remove it"
        )


def _sum_up(parts: Path, blocks: range, plan: Plan) -> dict[str, Any]:
    heads = [peek_block(_block_path(parts, b)) for b in blocks]
    skipped = {key: reason for head in heads for key, reason in head.skipped.items()}
    makers = sorted({head.made_by for head in heads})
    if len(makers) > 1:
        _LOG.warning(
            "blocks were made by %s: they may differ from a single run by rounding",
            "; ".join(makers),
        )
    return {
        **asdict(plan),
        "num_embedded": sum(head.num_images for head in heads),
        "num_skipped": len(skipped),
        "skipped": skipped,
        "contents": _digest(head.stamp for head in heads),
        "made_by": [f"resolute {__version__}", *makers],
    }


def _keys(listing: Listing, number: int, how: ArchiveOptions) -> tuple[str, ...]:
    return listing.keys[number * how.block_size : (number + 1) * how.block_size]


def _digest(stamps: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()


def _parts(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def _manifest(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _block_path(parts: Path, number: int) -> Path:
    return parts / f"block-{number:06d}.npz"


def _read_plan(parts: Path) -> Plan:
    return plan_of(parts / PLAN_NAME, _read_json(parts / PLAN_NAME))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text: dict[str, Any] = json.loads(path.read_text())
        return dict(text)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); remove it and run again"
        ) from None


def _write_json(path: Path, text: dict[str, Any]) -> None:
    blob = (json.dumps(text, indent=1) + "\n").encode()
    write_atomically(path, lambda file: file.write(blob), remedy=GO_ON)
