"""``resolute search``: who in a gallery looks like this?"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.cli.conditions import check_reliability, check_where
from resolute.cli.overrides import parse
from resolute.core.errors import ConfigError
from resolute.core.moment import read_moment
from resolute.retrieval.types import Answer, Where

if TYPE_CHECKING:
    from resolute.inference.calibration import Calibration
    from resolute.inference.compare import Look
    from resolute.inference.inputs import Pixels


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and search.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "resolute search GALLERY QUERY.jpg [MORE.jpg ...] --model RUN [-k 10] [options]"
    parser.epilog = (
        "Hits are candidates for a person to judge, not matches. Times read 2026-10-05T14:30 or\n"
        "20261005, UTC where no zone is given, or are seconds since 1970. hr and lr are the\n"
        "distances of the two streams, share is the part of the hr stream in the fused one.\n"
        "Several queries are searched one by one; with --same-person they are pooled into one by\n"
        "their reliability. The probability starts from the prior: among N images one near 1/N is\n"
        "honest. What speaks against trusting a query is printed as a warning."
    )
    add = parser.add_argument
    add("gallery", metavar="GALLERY", help="folder, or http://host:6333/collection")
    add("queries", nargs="+", metavar="QUERY", help="images")
    add("--model", required=True, metavar="RUN", help="run folder, exported file or shipped name")
    add("-k", type=int, default=10, help="hits per query (default: 10)")
    add("--same-person", action="store_true", help="the queries show one person: pool them")
    add("--camera", action="append", default=[], help="only this camera; may be repeated")
    add("--not-camera", action="append", default=[], help="not this camera; may be repeated")
    add("--from", dest="start", default="", metavar="TIME", help="taken at this time or later")
    add("--until", dest="end", default="", metavar="TIME", help="taken before this time")
    add("--min-reliability", type=float, help="0..1, of the gallery's images")
    add("--prior", type=float, help="chance of one person before looking (the calibration's)")
    add("--resolution", default="auto", help="hr, lr or auto, of the queries (default: auto)")
    add("--accelerator", default="", help="int8 or hnsw: candidates by FAISS")
    add("--device", default="cpu", help="auto, cpu, cuda, cuda:1, mps (default: cpu)")
    add("--runtime", default="", help="of an exported file: onnxruntime or openvino")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    where = Where(
        camera=options.camera,
        not_camera=options.not_camera,
        start=_time("--from", options.start),
        end=_time("--until", options.end),
        min_reliability=options.min_reliability,
    )

    from resolute.inference.compare import doubts_about, side_of, why_no_probability
    from resolute.inference.load import load
    from resolute.inference.native import resolution_flags
    from resolute.inference.pooling import pool
    from resolute.retrieval.accelerator import FaissAccelerator
    from resolute.retrieval.place import open_gallery

    model = load(options.model, device=options.device, runtime=options.runtime)
    accelerator = FaissAccelerator(options.accelerator) if options.accelerator else None
    key = os.environ.get("RESOLUTE_QDRANT_API_KEY")
    with open_gallery(
        options.gallery, fingerprint=model.fingerprint, accelerator=accelerator, api_key=key
    ) as gallery:
        check_where(gallery, where)
        (flag,) = resolution_flags(options.resolution, 1).tolist()
        looks: list[Look] = []
        query = model.embed_pixels(_looked(options.queries, flag, looks))
        names, shown = options.queries, [[look] for look in looks]
        if options.same_person:
            query, names, shown = pool(query), [" + ".join(options.queries)], [looks]
        answers = gallery.search(query, k=options.k, where=where)
        if where.min_reliability is not None and not answers[0].num_compared:
            check_reliability(gallery)
    calibration = model.calibration
    if calibration is not None and not calibration.fits(query):
        print(why_no_probability(calibration, query), file=sys.stderr)
        calibration = None
    found = []
    for i, answer in enumerate(answers):
        side = side_of(shown[i], query.take(slice(i, i + 1)))
        doubts = doubts_about(side, model.height_reference)
        about = {"query": names[i], "reliability": side.reliability, "warnings": doubts}
        found.append({**about, **_told(answer, calibration, options.prior)})
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for one in found:
            print("\n".join(_lines(one)))
    return 0


def _looked(paths: Sequence[str], flag: int, looks: "list[Look]") -> "Iterator[tuple[Pixels, int]]":
    """Decode the queries, and note of each what its pixels tell: not all are kept."""
    from resolute.inference.compare import look_at
    from resolute.inference.inputs import decoded

    for pixels in decoded(paths):
        looks.append(look_at(pixels))
        yield pixels, flag


def _told(answer: Answer, calibration: "Calibration | None", prior: float | None) -> dict[str, Any]:
    chances: list[float | None] = [None] * len(answer.hits)
    data = ""
    if calibration is None:
        prior = None
    else:
        prior = calibration.prior if prior is None else prior
        distances = np.array([hit.distance for hit in answer.hits])
        chances, data = calibration.probability(distances, prior=prior).tolist(), calibration.data
    return {
        "exact": answer.exact,
        "num_compared": answer.num_compared,
        "num_rescored": answer.num_rescored,
        "prior": prior,
        "calibrated_on": data,
        "hits": [
            {**asdict(hit), "probability": chance}
            for hit, chance in zip(answer.hits, chances, strict=True)
        ],
    }


def _lines(found: dict[str, Any]) -> list[str]:
    proof = "proven exact" if found["exact"] else "not proven exact"
    head = f"{found['query']}: of {found['num_compared']} images, {proof}"
    if found["reliability"] is not None:
        head += f"; reliability of the query {found['reliability']:.2f}"
    lines = [head, *(f"warning: {text}" for text in found["warnings"])]
    if found["prior"] is not None:
        lines.append(
            f"probability from a prior of {found['prior']:g}; "
            f"calibrated on {found['calibrated_on']}"
        )
    lines.append("rank  distance  prob.  hr     lr     share  rel.  size     camera  time  key")
    for rank, hit in enumerate(found["hits"], start=1):
        streams = [*hit["stream_distances"], None][:2]
        size = "-" if hit["native_size"] is None else "{}x{}".format(*hit["native_size"])
        when = "-" if hit["time"] is None else _when(hit["time"])
        cells = [
            f"{rank:4d}  {hit['distance']:8.4f}",
            f"{_number(hit['probability']):5s}",
            *(f"{_number(stream):5s}" for stream in streams),
            f"{hit['hr_share']:5.2f}",
            f"{_number(hit['reliability']):4s}",
            f"{size:7s}",
            f"{hit['camera'] or '-':6s}",
            when,
            hit["key"],
        ]
        lines.append("  ".join(cells))
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _when(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


def _time(option: str, text: str) -> float | None:
    try:
        return read_moment(text) if text else None
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from None
