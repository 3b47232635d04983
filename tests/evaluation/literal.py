"""The evaluation as its definition reads: sort the list of each query, walk down, count.

Slow on purpose, and independent of the code under test.
"""

import numpy as np

from resolute.core.types import Labels


def draw_labels(rng, num, *, num_pids, num_cameras=3, first_pid=1):
    return Labels(
        pids=rng.integers(first_pid, first_pid + num_pids, num),
        camids=rng.integers(0, num_cameras, num),
        rates=rng.choice([2.0, 3.0, 4.0], num),
        heights=rng.choice([0, 20, 32, 42, 64, 300], num),
    )


def draw_distances(rng, num_query, num_gallery, *, num_values=6):
    """Few different values: many ties."""
    return rng.integers(0, num_values, (num_query, num_gallery)).astype(np.float32)


def ranked_list(row, positions):
    """Gallery positions, nearest first; equal ones by position."""
    return sorted(positions, key=lambda at: (row[at], at))


def allowed(gallery, pid, camid, rule):
    """Gallery positions in the list of a query."""
    kept = []
    for at in range(len(gallery)):
        if gallery.pids[at] == -1:
            continue
        is_same_camera = gallery.camids[at] == camid
        if rule == "same-camera" and is_same_camera and gallery.pids[at] == pid:
            continue
        if rule == "separate-camera" and is_same_camera:
            continue
        kept.append(at)
    return kept


def score_list(row, positions, gallery, pid):
    """Rank of the first match, both AP and INP of one list; None without a match."""
    hits = [gallery.pids[at] == pid for at in ranked_list(row, positions)]
    if not any(hits):
        return None
    total, found, step, trapezoid, old_precision = sum(hits), 0, 0.0, 0.0, 1.0
    for place, is_hit in enumerate(hits, start=1):
        found += is_hit
        precision = found / place
        if is_hit:
            step += precision / total
            trapezoid += (old_precision + precision) / 2 / total
            last = place
        old_precision = precision
    return hits.index(True) + 1, step, trapezoid, total / last


def score_all(distances, query, gallery, rule):
    """Score every query on the whole gallery; None where there is no match."""
    return [
        score_list(
            distances[i],
            allowed(gallery, query.pids[i], query.camids[i], rule),
            gallery,
            query.pids[i],
        )
        for i in range(len(query))
    ]


def curve(first_ranks, max_rank):
    return [np.mean([0 < r <= k for r in first_ranks]) for k in range(1, max_rank + 1)]
