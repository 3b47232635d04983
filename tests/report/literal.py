"""Definitions written down as slowly as they read."""

import numpy as np

from resolute.core.types import Embedding, Labels


def embedding(rng, count, *, streams=2, dim=6, fusion="weighted"):
    vectors = rng.normal(size=(count, streams, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = rng.uniform(0.1, 0.9, size=(count, streams)).astype(np.float32)
    if streams == 1:
        quality[:] = 1
    return Embedding(vectors=vectors, quality=quality, fusion=fusion)


def labels(pids, camids, rates=None, heights=None):
    count = len(pids)
    return Labels(
        pids=np.asarray(pids, dtype=np.int64),
        camids=np.broadcast_to(camids, count).astype(np.int64),
        rates=np.asarray(rates if rates is not None else np.ones(count), dtype=np.float64),
        heights=np.asarray(heights if heights is not None else np.full(count, 128)),
    )


def ranking(row, is_listed):
    """Gallery positions, nearest first, earlier ones first among equals."""
    return sorted((g for g in range(len(row)) if is_listed[g]), key=lambda g: (row[g], g))


def listed(query_pid, query_camid, gallery, camera_rule):
    """Which gallery images stand in a query's list."""
    kept = gallery.pids != -1
    if camera_rule == "same-camera":
        kept &= ~((gallery.pids == query_pid) & (gallery.camids == query_camid))
    if camera_rule == "separate-camera":
        kept &= gallery.camids != query_camid
    return kept
