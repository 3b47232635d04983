"""Re-ranking beside plain scoring: time, additional memory, and agreement with the full matrix.

    python benchmarks/rerank.py [--streams 2] [--dim 512] [--num-query 3368] [--num-gallery 19732]

Random vectors around random identities; Market-1501's sizes by default. Each measurement is a
process of its own with one thread: its peak memory beyond what it held before, as the kernel
counts it and as Python's tracemalloc does. The full matrix, as the usual code holds it, is built
only where it is asked for (--full): 12 bytes per pair of images and more.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

from resolute.core.distance import distance_matrix
from resolute.core.rng import Stream, Streams
from resolute.core.types import Embedding, Labels
from resolute.evaluation.protocol import PROTOCOLS
from resolute.evaluation.rerank import rerank_rows
from resolute.evaluation.scoring import evaluate

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
K1, K2, SHARE = 20, 6, 0.3


def draw(
    rng: np.random.Generator, num: int, centres: np.ndarray, num_cameras: int
) -> tuple[Embedding, Labels]:
    """Draw images of random people, unit vectors per stream."""
    pids = rng.integers(1, 1 + len(centres), num)
    vectors = centres[pids - 1] + 3.0 * rng.standard_normal((num, *centres.shape[1:]), np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    labels = Labels(
        pids=pids,
        camids=rng.integers(0, num_cameras, num),
        rates=np.ones(num),
        heights=np.full(num, 128),
    )
    quality = rng.uniform(0.2, 1, vectors.shape[:2]).astype(np.float32)
    return Embedding(vectors=vectors, quality=quality), labels


def draw_set(args: argparse.Namespace) -> tuple[Embedding, Labels, Embedding, Labels]:
    """Draw queries and gallery of the sizes asked for."""
    rng = Streams(0).numpy(Stream.SYNTHETIC, 0)
    centres = rng.standard_normal((args.num_pids, args.streams, args.dim), np.float32)
    query, query_labels = draw(rng, args.num_query, centres, 6)
    return query, query_labels, *draw(rng, args.num_gallery, centres, 6)


def full_matrix(query: Embedding, gallery: Embedding) -> np.ndarray:
    """Re-rank over the full matrix and dense vectors V, one image at a time."""
    images = Embedding.concatenate([query, gallery])
    distances = distance_matrix(images, images)
    np.fill_diagonal(distances, 0)
    distances /= distances.max(axis=1, keepdims=True)
    ranked = np.argsort(distances, axis=1, kind="stable")
    encoded = np.zeros_like(distances)
    half = round(K1 / 2)

    def mutual(i: int, k: int) -> np.ndarray:
        near = ranked[i, : k + 1]
        return near[(ranked[near, : k + 1] == i).any(axis=1)]

    for i in range(len(images)):
        own = mutual(i, K1)
        more = [mutual(j, half) for j in own]
        kept = [m for m in more if 3 * np.isin(m, own).sum() > 2 * len(m)]
        members = np.unique(np.concatenate([own, *kept]))
        weights = np.exp(-distances[i, members])
        encoded[i, members] = weights / weights.sum()
    encoded = np.stack([encoded[near].mean(axis=0) for near in ranked[:, :K2]])
    result = np.empty((len(query), len(gallery)), dtype=np.float32)
    for i in range(len(query)):
        common = np.minimum(encoded[i], encoded[len(query) :]).sum(axis=1)
        result[i] = (1 - SHARE) * (1 - common / (2 - common))
    return result + SHARE * distances[: len(query), len(query) :]


def peak_bytes() -> int:
    """Return the largest memory this process has held since the peak was reset."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":") for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Run one measurement in this process."""
    query, query_labels, gallery, gallery_labels = draw_set(args)
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, begin, begin_cpu = peak_bytes(), time.perf_counter(), time.process_time()
    if args.measure == "traced":
        tracemalloc.start()
    distances = {
        "plain": lambda: (query, gallery),
        "full": lambda: full_matrix(query, gallery),
    }.get(args.measure, lambda: rerank_rows(query, gallery, k1=K1, k2=K2, share=SHARE))()
    market = PROTOCOLS["market"]
    report = evaluate(market, distances, query_labels, gallery_labels, streams=Streams(0))
    seconds = time.perf_counter() - begin
    traced = tracemalloc.get_traced_memory()[1] if tracemalloc.is_tracing() else 0
    return {
        "seconds": seconds,
        "cpu": time.process_time() - begin_cpu,
        "bytes": traced or peak_bytes() - before,
        "rank1": report.cmc[0],
        "mean_ap": report.mean_ap,
    }


def run(measurement: str, args: argparse.Namespace) -> dict[str, float]:
    """Run one measurement in a fresh single-threaded process."""
    command = [sys.executable, __file__, "--measure", measurement]
    for name in ("num_query", "num_gallery", "num_pids", "streams", "dim"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-query", type=int, default=3368)
    parser.add_argument("--num-gallery", type=int, default=19732)
    parser.add_argument("--num-pids", type=int, default=750)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--full", action="store_true", help="also the full matrix, for small sizes")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    print(f"{args.num_query:,} x {args.num_gallery:,}, {args.streams} streams of {args.dim}")
    names = {
        "plain": "weighted distance and scores",
        "rerank": "re-ranked, peak of the process",
        "traced": "re-ranked, peak of tracemalloc",
    }
    if args.full:
        names["full"] = "re-ranked over the full matrix"
    for measurement, name in names.items():
        found = run(measurement, args)
        print(
            f"{name:<32} {found['seconds']:6.1f} s ({found['cpu']:.1f} s of processor time) "
            f"{found['bytes'] / 1e9:6.2f} GB additional   "
            f"Rank-1 {100 * found['rank1']:.2f} %  mAP {100 * found['mean_ap']:.3f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
