"""Time of exact search in a gallery, beside the bare matrix product and FAISS flat.

    python benchmarks/search.py                       # 1,000,000 images at 2 x 256
    python benchmarks/search.py --images 100000       # a smaller one
    python benchmarks/search.py --faiss               # and FAISS flat, and the accelerator
    python benchmarks/search.py --decay 1             # vectors with a decaying spectrum

Vectors are drawn: people at random directions, about ten images each. The matrix product `g @ q` of
the same run is the floor of any float32 scan. Every answer is checked against a float64 search over
all pairs. Turns of all ways alternate, the best of each counts, so a busy machine harms none alone.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resolute.core.distance import fused_vectors
from resolute.core.types import Embedding
from resolute.retrieval.accelerator import FaissAccelerator
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.types import Item, VectorSpace, Where

CHUNK = 2**16


def draw(
    rng: np.random.Generator, people: np.ndarray, pids: np.ndarray, args: argparse.Namespace
) -> Embedding:
    """Draw images of people: per stream a direction of the person plus noise, normalised."""
    spectrum = np.arange(1, args.dim + 1, dtype=np.float32) ** -args.decay
    vectors = people[pids] + args.noise * rng.standard_normal(
        (len(pids), 2, args.dim), dtype=np.float32
    )
    vectors *= spectrum / np.sqrt((spectrum**2).mean())
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = rng.uniform(0.2, 1, (len(pids), 2)).astype(np.float32)
    return Embedding(vectors=vectors.astype(np.float32), quality=quality)


def build(folder: Path, args: argparse.Namespace) -> tuple[Gallery, Embedding, Embedding]:
    """Fill a gallery; return it, all its embeddings and the queries."""
    rng = np.random.default_rng(args.seed)
    num_people = max(1, args.images // 10)
    people = rng.standard_normal((num_people, 2, args.dim), dtype=np.float32)
    space = VectorSpace(fingerprint="drawn", num_streams=2, dim=args.dim)
    gallery = Gallery.create(folder, space=space)
    parts, began = [], time.perf_counter()
    for start in range(0, args.images, CHUNK):
        count = min(CHUNK, args.images - start)
        part = draw(rng, people, rng.integers(num_people, size=count), args)
        items = [Item(key=f"image{start + i:09d}", camera=f"c{i % 6}") for i in range(count)]
        gallery.add(items, part)
        parts.append(part)
    print(f"drawn and added in {time.perf_counter() - began:.1f} s")
    queries = draw(rng, people, rng.integers(num_people, size=args.queries), args)
    return gallery, Embedding.concatenate(parts), queries


def race(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Run all ways in turn; return the best time of each in seconds."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(turns + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def check(gallery: Gallery, everything: Embedding, queries: Embedding, k: int) -> None:
    """Compare answers with a float64 search over all pairs.

    Raises:
        SystemExit: if one differs.
    """
    for at, answer in enumerate(gallery.search(queries, k=k)):
        q, w = queries.vectors[at].astype(np.float64), queries.quality[at].astype(np.float64)
        distances = np.empty(len(everything))
        for start in range(0, len(everything), CHUNK):
            part = everything.take(slice(start, start + CHUNK))
            apart = ((part.vectors.astype(np.float64) - q) ** 2).sum(axis=2)
            weights = part.quality.astype(np.float64) * w
            distances[start : start + CHUNK] = (apart * weights).sum(axis=1) / weights.sum(axis=1)
        order = np.argsort(distances, kind="stable")[:k]
        keys = [f"image{i:09d}" for i in order]
        if [hit.key for hit in answer.hits] != keys or not answer.exact:
            raise SystemExit(f"query {at}: not the nearest images")
    print(f"answers of {len(queries)} queries are those of a float64 search over all pairs")


def show(title: str, times: dict[str, float]) -> None:
    """Print times and their ratio to the first."""
    base = next(iter(times.values()))
    print(title)
    for name, seconds in times.items():
        print(f"  {name:<44} {1e3 * seconds:9.1f} ms   {seconds / base:6.2f} x")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256, help="numbers per stream")
    parser.add_argument("--queries", type=int, default=100, help="in the batch")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--noise", type=float, default=0.5, help="of an image against its person")
    parser.add_argument(
        "--decay", type=float, default=0, help="exponent of the spectrum; 0 is flat"
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checked", type=int, default=3, help="queries compared with float64")
    parser.add_argument("--folder", type=Path, help="where to put the gallery (a temporary one)")
    parser.add_argument("--faiss", action="store_true", help="also FAISS flat, and the accelerator")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        place = Path(folder) / "gallery"
        gallery, everything, queries = build(place, args)
        gallery.close()
        began = time.perf_counter()
        gallery = Gallery.open(place)
        opened = time.perf_counter() - began
        print(f"{args.images:,} images at 2 x {args.dim}, opened in {opened:.3f} s")
        one = queries.take(slice(0, 1))
        began = time.perf_counter()
        gallery.search(one, k=args.k)
        print(f"first search, which checks every vector: {time.perf_counter() - began:.2f} s")
        check(gallery, everything, queries.take(slice(0, args.checked)), args.k)
        g, u = fused_vectors(everything), fused_vectors(queries)
        q = u[0].copy()
        filtered = Where(not_camera=("c1",))
        single: dict[str, Callable[[], object]] = {
            "g @ q": lambda: g @ q,
            "gallery": lambda: gallery.search(one, k=args.k),
            "gallery, not camera c1": lambda: gallery.search(one, k=args.k, where=filtered),
        }
        batch: dict[str, Callable[[], object]] = {
            "g @ q.T": lambda: g @ u.T,
            "gallery ": lambda: gallery.search(queries, k=args.k),
        }
        if args.faiss:
            import faiss

            index = faiss.IndexFlatIP(g.shape[1])
            index.add(g)
            fast = Gallery.open(place, accelerator=FaissAccelerator("int8"))
            began = time.perf_counter()
            check(fast, everything, queries.take(slice(0, args.checked)), args.k)
            print(f"  with FAISS int8, built and checked in {time.perf_counter() - began:.1f} s")
            single["gallery, FAISS int8 accelerator"] = lambda: fast.search(one, k=args.k)
            single["FAISS flat, fused vectors, not rescored"] = lambda: index.search(u[:1], args.k)
            batch["FAISS flat, fused vectors, not rescored"] = lambda: index.search(u, args.k)
        del everything
        show("one query", race(single, args.turns))
        show(f"{args.queries} queries", race(batch, max(1, args.turns // 2)))


if __name__ == "__main__":
    main()
