"""Evaluation functions with the names, arguments and numbers of other toolboxes.

Change the import, keep the script. What the originals do that these do not: they sort with an
unstable sort, so equal distances rank differently from machine to machine (here: by gallery
position); they stop with an assertion or a numpy error where these explain; they print.

Letters: Q queries, G gallery, R ranks.
"""

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ProtocolError, ShapeError
from resolute.core.rng import Streams
from resolute.evaluation.candidates import Candidates
from resolute.evaluation.draws import SingleShot
from resolute.evaluation.metrics import QueryScores, cmc, match_ranks

_CUHK03_DRAWS = 10

Array = NDArray[np.generic]


def torchreid_evaluate_rank(
    distmat: NDArray[np.floating],
    q_pids: Array,
    g_pids: Array,
    q_camids: Array,
    g_camids: Array,
    max_rank: int = 50,
    use_metric_cuhk03: bool = False,  # noqa: FBT001, FBT002 - the signature is Torchreid's
    use_cython: bool = True,  # noqa: ARG001, FBT001, FBT002
) -> tuple[NDArray[np.float32], float]:
    """Compute CMC and mAP as ``torchreid.metrics.evaluate_rank`` does.

    Gallery images of the query's identity and camera are removed; queries without a match are
    left out of the means; every identity counts, 0 and -1 too. In CUHK03 mode the CMC is the mean
    over 10 random galleries per query with one image per identity, while mAP stays on the whole
    list. There the original draws from numpy's global state; here the draws are fixed, so the
    same input always gives the same result, equal to the original's up to the draw.
    Where the list of a query is shorter than the curve the original fails (or, if all lists are
    equally short, shortens the curve); here the curve goes on flat at its full length.

    Args:
        distmat: distances, shape (Q, G).
        q_pids: identity of each query, shape (Q,).
        g_pids: identity of each gallery image, shape (G,).
        q_camids: camera of each query, shape (Q,).
        g_camids: camera of each gallery image, shape (G,).
        max_rank: length of the curve, shortened to the gallery's.
        use_metric_cuhk03: rank single-gallery-shot.
        use_cython: accepted and without effect; nothing here is compiled.

    Returns:
        CMC, shape (R,), and mAP (non-interpolated), as fractions 0..1.

    Raises:
        ShapeError: if the shapes do not fit.
        ProtocolError: if no query has a match, or distances are NaN.
    """
    scores, max_rank = _evaluate(
        distmat, q_pids, g_pids, q_camids, g_camids, max_rank, use_metric_cuhk03
    )
    curve = cmc(scores.first_ranks, max_rank=max_rank).mean(axis=0)  # (R,)
    return curve.astype(np.float32), float(scores.ap_step.mean())


def fastreid_evaluate_rank(
    distmat: NDArray[np.floating],
    q_pids: Array,
    g_pids: Array,
    q_camids: Array,
    g_camids: Array,
    max_rank: int = 50,
    use_metric_cuhk03: bool = False,  # noqa: FBT001, FBT002 - the signature is FastReID's
    use_cython: bool = True,  # noqa: ARG001, FBT001, FBT002
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Compute CMC, all AP and all INP as ``fastreid.evaluation.rank.evaluate_rank`` does.

    Rules and differences as for :func:`torchreid_evaluate_rank`. In CUHK03 mode the original
    returns two values, the CMC and mAP; here always three.

    Args:
        distmat: distances, shape (Q, G).
        q_pids: identity of each query, shape (Q,).
        g_pids: identity of each gallery image, shape (G,).
        q_camids: camera of each query, shape (Q,).
        g_camids: camera of each gallery image, shape (G,).
        max_rank: length of the curve, shortened to the gallery's.
        use_metric_cuhk03: rank single-gallery-shot.
        use_cython: accepted and without effect; nothing here is compiled.

    Returns:
        CMC, shape (R,); AP and INP of each query that has a match, in query order.

    Raises:
        ShapeError: if the shapes do not fit.
        ProtocolError: if no query has a match, or distances are NaN.
    """
    scores, max_rank = _evaluate(
        distmat, q_pids, g_pids, q_camids, g_camids, max_rank, use_metric_cuhk03
    )
    curve = cmc(scores.first_ranks, max_rank=max_rank).mean(axis=0)  # (R,)
    return curve.astype(np.float32), scores.ap_step[:, 0], scores.inp[:, 0]


def _evaluate(
    distmat: NDArray[np.floating],
    q_pids: Array,
    g_pids: Array,
    q_camids: Array,
    g_camids: Array,
    max_rank: int,
    is_single_shot: bool,  # noqa: FBT001
) -> tuple[QueryScores, int]:
    distances, (q_pids, g_pids, q_camids, g_camids) = _checked(
        distmat, (q_pids, g_pids, q_camids, g_camids)
    )
    candidates = Candidates(g_pids, g_camids, camera_rule="same-camera", junk_pid=None)
    single = SingleShot(
        candidates,
        num_draws=_CUHK03_DRAWS,
        is_per_query=True,
        has_distractors=False,
        streams=Streams(0),
        trial=0,
    )
    scores = QueryScores.empty(len(q_pids), _CUHK03_DRAWS if is_single_shot else 1)
    for position, (pid, camid) in enumerate(zip(q_pids.tolist(), q_camids.tolist(), strict=True)):
        matches, removed = candidates.of_query(pid, camid)
        if not len(matches):
            continue
        row = distances[position]
        scores.put_list(position, match_ranks(row, matches, removed))
        if is_single_shot:
            ranks = single.ranks(row, position=position, pid=pid, camid=camid, matches=matches)
            scores.put_first(position, ranks, is_only_match=False)
    found = scores.first_ranks[:, 0] > 0
    if not found.any():
        raise ProtocolError(
            "no query has a match in the gallery: identities must occur on both sides, in images "
            "of different cameras; if cameras are unknown, give all queries one camera and all "
            "gallery images another"
        )
    length = single.num_images if is_single_shot else distances.shape[1]
    return scores.take(found), min(max_rank, length)


def _checked(
    distmat: NDArray[np.floating], labels: tuple[Array, ...]
) -> tuple[NDArray[np.floating], list[NDArray[np.int64]]]:
    distances = np.asarray(distmat)
    if not np.issubdtype(distances.dtype, np.floating):
        distances = distances.astype(np.float64)
    integers = [np.asarray(part).astype(np.int64) for part in labels]
    queries, gallery = {p.shape for p in integers[::2]}, {p.shape for p in integers[1::2]}
    if distances.ndim != 2 or queries != {distances.shape[:1]} or gallery != {distances.shape[1:]}:
        raise ShapeError(
            "evaluate_rank: expected distmat (Q, G) with q_pids, q_camids (Q,) and g_pids, "
            f"g_camids (G,), got {distances.shape} with {[p.shape for p in integers]}"
        )
    if distances.size and np.isnan(distances.max()):
        raise ProtocolError("distmat: some distances are NaN")
    return distances, integers
