"""``resolute index``: a folder of images becomes a gallery to search."""

import argparse
import os
import sys
from collections.abc import Sequence

from resolute.cli.overrides import parse
from resolute.cli.progress import ImageProgress


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and index.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "resolute index DIR --model RUN --out GALLERY [options]"
    parser.epilog = (
        "Images whose keys are in the gallery are passed over and counted: the same command goes\n"
        "on after an interruption and adds what is new. What was deleted from the gallery or has\n"
        "expired in it is passed over too, unless told --again. Keys are paths below DIR. GALLERY\n"
        "is a folder, or http://host:6333/collection of Qdrant (RESOLUTE_QDRANT_API_KEY).\n"
        "--camera-pattern market reads 0002_c1s1_000451_03.jpg; a regular expression takes its\n"
        r"first group, for example '^(cam\d+)/'."
    )
    add = parser.add_argument
    add("folder", metavar="DIR", help="images, in sub-folders too")
    add("--model", required=True, metavar="RUN", help="run folder, exported file or shipped name")
    add("--out", required=True, metavar="GALLERY", help="made where there is none")
    add("--camera-pattern", default="", metavar="REGEX", help="market, or how keys name the camera")
    add("--prefix", default="", help="put before every key, to tell folders apart")
    add("--time-from-files", action="store_true", help="time of an image: its file's, last changed")
    add("--no-thumbnails", action="store_true", help="keep no small pictures")
    add("--retention-days", type=float, help="of a new gallery: age at which expire erases")
    add("--again", action="store_true", help="put back what was deleted or has expired")
    add("--resolution", default="auto", help="hr, lr or auto, of all images (default: auto)")
    add("--batch-size", type=int, default=32, help="images per forward pass (default: 32)")
    add("--on-error", default="raise", help="raise, or skip and list what is broken")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    add("--runtime", default="", help="of an exported file: onnxruntime or openvino")
    add("--quiet", action="store_true", help="no progress")
    options = parse(parser, words)

    from resolute.engine.memory import keep_freed_memory
    from resolute.engine.process import torch_settings
    from resolute.inference.indexing import IndexOptions, index_folder
    from resolute.inference.load import load

    how = IndexOptions(
        camera_pattern=options.camera_pattern,
        prefix=options.prefix,
        is_timed=options.time_from_files,
        has_thumbnails=not options.no_thumbnails,
        resolution=options.resolution,
        batch_size=options.batch_size,
        on_error=options.on_error,
        retention_days=options.retention_days,
        with_deleted=options.again,
    )
    keep_freed_memory()
    model = load(
        options.model, device=options.device, runtime=options.runtime, threads=options.threads
    )
    with (
        torch_settings(threads=options.threads, device=model.device),
        ImageProgress(is_quiet=options.quiet) as progress,
    ):
        done = index_folder(
            model,
            options.folder,
            options.out,
            options=how,
            api_key=os.environ.get("RESOLUTE_QDRANT_API_KEY"),
            told=progress.told,
        )
    for text in done.skipped:
        print(f"skipped {text}", file=sys.stderr)
    counts = [f"{done.num_added} images added", f"{done.num_known} were there already"]
    counts += [f"{done.num_deleted} deleted or expired before"] if done.num_deleted else []
    counts += [f"{done.num_expired} older than the retention"] if done.num_expired else []
    counts += [f"{len(done.skipped)} skipped"] if done.skipped else []
    counts += [f"{done.num_ignored} side files passed over"] if done.num_ignored else []
    print(f"{options.out}: {', '.join(counts)}")
    return 0
