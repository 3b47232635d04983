"""``resolute embed``: a folder of images becomes one file of embeddings."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resolute.cli.overrides import parse
from resolute.cli.progress import ImageProgress
from resolute.core.errors import ConfigError


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and embed.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the words do not fit together.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "resolute embed DIR --model RUN --out FILE.npz|FILE.parquet [options]\n"
        "       resolute embed DIR --model RUN --out FILE --shard i/n     (i from 0 to n - 1)\n"
        "       resolute embed --merge --out FILE"
    )
    parser.epilog = (
        "Interrupted, the same command goes on. FILE.json is its manifest: counts, skipped\n"
        "images, the model's fingerprint. Shards write into FILE.parts, which may be a\n"
        "common disk or be copied together; --merge gives the same bits as one run. The options\n"
        "of all shards must be the same."
    )
    add = parser.add_argument
    add("folder", nargs="?", metavar="DIR", help="images, in sub-folders too")
    add("--model", metavar="RUN", help="run folder, exported file, or name of a shipped model")
    add("--out", type=Path, required=True, metavar="FILE", help="ends in .npz or .parquet")
    add("--shard", metavar="i/n", help="embed the i-th of n parts only")
    add("--merge", action="store_true", help="join what the shards wrote")
    add("--resolution", default="auto", help="hr, lr or auto, of all images (default: auto)")
    add("--batch-size", type=int, default=32, help="images per forward pass (default: 32)")
    add("--block-size", type=int, default=512, help="images per resumable block (default: 512)")
    add("--on-error", default="raise", help="raise, or skip and list what is broken")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    add("--runtime", default="", help="of an exported file: onnxruntime or openvino")
    add("--quiet", action="store_true", help="no progress")
    options = parse(parser, words)
    if options.merge:
        if options.folder or options.shard or options.model:
            raise ConfigError("--merge joins what is there: give it --out alone")
        from resolute.inference.archive import merge

        print(_told(merge(options.out), options.out))
        return 0
    if not options.folder or not options.model:
        raise ConfigError("expected the folder of images and --model RUN")
    manifest = _embed(options, _shard(options.shard))
    place = f"{options.out}.parts" if options.shard else options.out
    print(_told(manifest, place))
    return 0


def _embed(options: argparse.Namespace, shard: tuple[int, int] | None) -> dict[str, Any]:
    from resolute.engine.memory import keep_freed_memory
    from resolute.engine.process import torch_settings
    from resolute.inference.archive import embed_folder
    from resolute.inference.load import load
    from resolute.inference.plan import ArchiveOptions

    how = ArchiveOptions(
        resolution=options.resolution,
        batch_size=options.batch_size,
        on_error=options.on_error,
        block_size=options.block_size,
    )
    keep_freed_memory()
    model = load(
        options.model, device=options.device, runtime=options.runtime, threads=options.threads
    )
    with (
        torch_settings(threads=options.threads, device=model.device),
        ImageProgress(is_quiet=options.quiet) as progress,
    ):
        return embed_folder(
            model, options.folder, options.out, options=how, shard=shard, told=progress.told
        )


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise ConfigError(f"--shard: expected i/n such as 0/4, got {text!r}")
    return int(match[1]), int(match[2])


def _told(manifest: dict[str, Any], place: str | os.PathLike[str]) -> str:
    words = f"{place}: {manifest['num_embedded']} images embedded"
    if manifest["num_skipped"]:
        words += f", {manifest['num_skipped']} skipped (listed in the manifest)"
    if manifest["num_ignored"]:
        words += f", {manifest['num_ignored']} side files passed over"
    return words
