"""Time and memory of the evaluation, against a literal reference.

    python benchmarks/evaluation.py                          # Market-1501 size
    python benchmarks/evaluation.py --msmt17                 # and MSMT17 size, quality-weighted
    python benchmarks/evaluation.py --torchreid rank.py      # and Torchreid's own file

Vectors are drawn; identities, cameras, junk and distractors have the proportions of the real set.
Every measurement runs in a process of its own on one thread. Memory is what the process needed at
its peak beyond what it held before (its inputs), so the distances themselves count where a
measurement makes them. Torchreid's Python path is measured on a part of the queries
and scaled, because the whole takes minutes.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resolute.core.distance import distance_matrix, distance_rows
from resolute.core.rng import Stream, Streams
from resolute.core.types import Embedding, Labels
from resolute.evaluation.dropin import torchreid_evaluate_rank
from resolute.evaluation.protocol import PROTOCOLS
from resolute.evaluation.scoring import evaluate

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def draw_labels(rng: np.random.Generator, num: int, num_pids: int, num_cameras: int) -> Labels:
    """Draw identities from 1 on and cameras from 0 on."""
    return Labels(
        pids=rng.integers(1, num_pids + 1, num),
        camids=rng.integers(0, num_cameras, num),
        rates=np.ones(num),
        heights=np.full(num, 128),
    )


def draw_embedding(
    rng: np.random.Generator, pids: np.ndarray, *, streams: int, dim: int
) -> Embedding:
    """Draw unit vectors around one centre per identity, and qualities."""
    vectors = rng.standard_normal((len(pids), streams, dim), dtype=np.float32)
    for pid in np.unique(pids):
        centre = Streams(1).numpy(Stream.SYNTHETIC, int(pid) + 1).standard_normal((streams, dim))
        vectors[pids == pid] += 0.35 * centre.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = rng.uniform(0.2, 1, (len(pids), streams)).astype(np.float32)
    return Embedding(vectors=vectors, quality=quality)


def draw_set(args: argparse.Namespace) -> tuple[Embedding, Labels, Embedding, Labels]:
    """Draw queries and gallery of the sizes asked for."""
    rng = Streams(0).numpy(Stream.SYNTHETIC, 0)
    query = draw_labels(rng, args.num_query, args.num_pids, args.num_cameras)
    gallery = draw_labels(rng, args.num_gallery, args.num_pids, args.num_cameras)
    role = rng.random(args.num_gallery)
    gallery.pids[role < args.junk] = -1
    gallery.pids[role > 1 - args.distractors] = 0
    draw = {"streams": args.streams, "dim": args.dim}
    query_vectors = draw_embedding(rng, query.pids, **draw)
    return query_vectors, query, draw_embedding(rng, gallery.pids, **draw), gallery


class Meter:
    """Time and additional memory since it was made."""

    def __init__(self) -> None:
        self._status = Path("/proc/self/status")
        if self._status.exists():
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        self._before = self._peak_bytes()
        self._start = time.perf_counter()

    def result(self, rank1: float, mean_ap: float) -> dict[str, float]:
        """Return what it took, beside the scores."""
        return {
            "seconds": time.perf_counter() - self._start,
            "bytes": self._peak_bytes() - self._before,
            "rank1": float(rank1),
            "mean_ap": float(mean_ap),
        }

    def _peak_bytes(self) -> int:
        if self._status.exists():
            fields = dict(line.split(":") for line in self._status.read_text().splitlines())
            return int(fields["VmHWM"].split()[0]) * 1024
        # Elsewhere the peak is that of the whole life: additional memory reads too small.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def literal_market(
    distances: np.ndarray, query: Labels, gallery: Labels
) -> tuple[float, float, float]:
    """Score with one stable argsort and a loop over queries, junk removed; the definition."""
    start = time.perf_counter()
    order = np.argsort(distances, axis=1, kind="stable")
    sorted_s = time.perf_counter() - start
    first, precision = [], []
    for ranking, pid, camid in zip(order, query.pids, query.camids, strict=True):
        is_own = gallery.pids[ranking] == pid
        kept = ~(is_own & (gallery.camids[ranking] == camid)) & (gallery.pids[ranking] != -1)
        hits = is_own[kept]
        if hits.any():
            places = np.flatnonzero(hits) + 1
            first.append(places[0] == 1)
            precision.append((np.arange(1, len(places) + 1) / places).mean())
    return sorted_s, float(np.mean(first)), float(np.mean(precision))


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Run one measurement in this process."""
    query_vectors, query, gallery_vectors, gallery = draw_set(args)
    market = PROTOCOLS["market"]
    if args.measure == "weighted":
        meter = Meter()
        rows = distance_rows(query_vectors, gallery_vectors, fusion="weighted")
        report = evaluate(market, rows, query, gallery, streams=Streams(0))
        return meter.result(report.cmc[0], report.mean_ap)
    distances = distance_matrix(query_vectors, gallery_vectors, fusion="hr")
    if args.measure == "ours":
        meter = Meter()
        report = evaluate(market, distances, query, gallery, streams=Streams(0))
        return meter.result(report.cmc[0], report.mean_ap)
    if args.measure == "literal":
        meter = Meter()
        sorted_s, rank1, mean_ap = literal_market(distances, query, gallery)
        return {**meter.result(rank1, mean_ap), "argsort_s": sorted_s}
    kept = gallery.pids != -1  # Torchreid drops junk when it reads a data set
    distances = np.ascontiguousarray(distances[:, kept])
    gallery = gallery.take(np.flatnonzero(kept))
    function: Callable[..., Any] = torchreid_evaluate_rank
    if args.measure == "torchreid":
        function = _torchreid(args.torchreid)
        part = np.arange(args.torchreid_queries)
        distances, query = distances[part], query.take(part)
    meter = Meter()
    curve, mean_ap = function(distances, query.pids, gallery.pids, query.camids, gallery.camids)
    return {**meter.result(curve[0], mean_ap), "queries": len(distances)}


def _torchreid(path: Path) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("torchreid_rank", path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that its compiled part is not there
        spec.loader.exec_module(module)
    function: Callable[..., Any] = module.evaluate_rank
    return function


def run(measurement: str, args: argparse.Namespace, **sizes: float) -> dict[str, float]:
    """Run one measurement in a fresh single-threaded process."""
    options = {**vars(args), **sizes, "measure": measurement}
    command = [sys.executable, __file__]
    for name, value in options.items():
        if value is not None and not isinstance(value, bool):
            command += [f"--{name.replace('_', '-')}", str(value)]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def show(name: str, result: dict[str, float]) -> None:
    """Print one line of the table."""
    print(
        f"{name:<42} {result['seconds']:8.2f} s {result['bytes'] / 1e9:7.2f} GB   "
        f"Rank-1 {100 * result['rank1']:.3f} %  mAP {100 * result['mean_ap']:.4f} %",
        flush=True,
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-query", type=int, default=3368)
    parser.add_argument("--num-gallery", type=int, default=19732)
    parser.add_argument("--num-pids", type=int, default=750)
    parser.add_argument("--num-cameras", type=int, default=6)
    parser.add_argument("--junk", type=float, default=3819 / 19732, help="share of the gallery")
    parser.add_argument("--distractors", type=float, default=2798 / 19732, help="likewise")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--torchreid", type=Path, help="Torchreid's metrics/rank.py")
    parser.add_argument("--torchreid-queries", type=int, default=200, help="how many it is given")
    parser.add_argument("--msmt17", action="store_true", help="11,659 x 82,161, two streams")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    print(f"{args.num_query:,} x {args.num_gallery:,}; seconds beyond the matrix product")
    literal = run("literal", args)
    ours = run("ours", args)
    show("ours: CMC, both mAP, mINP, rates, heights", ours)
    show("literal: stable argsort and a loop", literal)
    print(f"{'  of it the argsort alone':<42} {literal['argsort_s']:8.2f} s", end="")
    print(f"   = {literal['argsort_s'] / ours['seconds']:.1f} times ours")
    show("ours: torchreid_evaluate_rank, no junk", run("dropin", args))
    if args.torchreid:
        theirs = run("torchreid", args)
        show(f"Torchreid's Python, {theirs['queries']} queries", theirs)
        scale = args.num_query / theirs["queries"]
        print(f"{'  scaled to all queries':<42} {scale * theirs['seconds']:8.2f} s")
    if args.msmt17:
        sizes = {"num_query": 11659, "num_gallery": 82161, "num_pids": 3060, "num_cameras": 15}
        result = run("weighted", args, **sizes, junk=0, distractors=0, streams=2)
        print(f"11,659 x 82,161, two streams of {args.dim}, distances included")
        show("ours: weighted distance and evaluation", result)


if __name__ == "__main__":
    main()
