"""Say why an evaluation cannot be right, before any distance is looked at.

Letters: Q queries, G gallery.
"""

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ProtocolError
from resolute.core.types import Labels
from resolute.evaluation.candidates import DISTRACTOR_PID, JUNK_PID, Candidates

Mask = NDArray[np.bool_]


def matched_queries(candidates: Candidates, query: Labels) -> Mask:
    """Find the queries that have at least one match left.

    Args:
        candidates: the gallery under a camera rule.
        query: labels of Q queries.

    Returns:
        A mask, shape (Q,).
    """
    pairs = np.stack([query.pids, query.camids], axis=1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    has_match = [len(candidates.of_query(pid, camid)[0]) > 0 for pid, camid in unique.tolist()]
    return np.array(has_match, dtype=bool)[inverse.reshape(-1)]


def check_queries(query: Labels, gallery: Labels, *, has_distractors: bool) -> None:
    """Refuse labels that no protocol can score.

    Args:
        query: labels of Q queries.
        gallery: labels of G gallery images.
        has_distractors: whether identity 0 means background images that match nobody.

    Raises:
        ProtocolError: if a side is empty, or a query is junk or a distractor.
    """
    if not len(query) or not len(gallery):
        raise ProtocolError(
            f"expected at least one query and one gallery image, got {len(query)} and "
            f"{len(gallery)}"
        )
    num_junk = int(np.count_nonzero(query.pids == JUNK_PID))
    if num_junk:
        raise ProtocolError(
            f"{num_junk} queries have identity {JUNK_PID}, which marks junk: take them out"
        )
    num_distractors = int(np.count_nonzero(query.pids == DISTRACTOR_PID))
    if has_distractors and num_distractors:
        raise ProtocolError(
            f"{num_distractors} queries have identity {DISTRACTOR_PID}, which marks distractors: "
            "take them out or, if it is a person like any other, set --protocol.distractors none "
            "(with --features)"
        )


def explain_unmatched(
    candidates: Candidates, query: Labels, has_match: Mask, *, can_skip: bool
) -> str:
    """Word why some queries have no match, with the likely cause and the remedy.

    Args:
        candidates: the gallery under a camera rule.
        query: labels of Q queries.
        has_match: as from :func:`matched_queries`, shape (Q,), not all true.
        can_skip: whether leaving the queries out would be a way on.

    Returns:
        One line.
    """
    missing = query.take(np.flatnonzero(~has_match))
    is_known = np.isin(missing.pids, candidates.pids)
    absent, lost = np.unique(missing.pids[~is_known]), np.unique(missing.pids[is_known])
    parts = [
        f"{len(missing)} of {len(query)} queries have no match in the gallery: "
        f"{len(absent)} of {len(np.unique(query.pids))} query identities have no gallery image"
        f"{_examples(absent)}, {len(lost)} lost a match to the camera rule "
        f"{candidates.camera_rule!r}{_examples(lost)}"
    ]
    if len(lost):
        parts.append(_camera_cause(candidates, query))
    if len(absent):
        parts.append(_identity_cause(candidates, query))
    if can_skip and has_match.any():
        parts.append(
            "to leave these queries out, counted: --protocol.on_unmatched skip (with --features)"
        )
    return "; ".join(parts)


def _examples(pids: NDArray[np.int64]) -> str:
    if not len(pids):
        return ""
    more = ", ..." if len(pids) > 3 else ""
    return f" ({', '.join(str(p) for p in pids[:3].tolist())}{more})"


def _camera_cause(candidates: Candidates, query: Labels) -> str:
    cameras = np.union1d(query.camids, candidates.camids)
    remedy = (
        "if cameras are unknown or mean nothing, set --protocol.camera_rule none "
        "(with --features), of a run --protocol all-shot"
    )
    if len(cameras) == 1:
        return f"likely cause: every image has camera {cameras[0]}; {remedy}"
    return f"likely cause: these people were seen by one camera only; {remedy}"


def _identity_cause(candidates: Candidates, query: Labels) -> str:
    ours = np.unique(query.pids)
    theirs = np.setdiff1d(candidates.pids, [JUNK_PID, DISTRACTOR_PID])
    if len(theirs) and _is_relabelled(ours) != _is_relabelled(theirs):
        side, first = ("query", ours[0]) if _is_relabelled(ours) else ("gallery", theirs[0])
        return (
            f"likely cause: identities of the {side} run without a gap from {first} while the "
            "other side's do not, as if one half was relabelled; give both sides the identities "
            "of the data set"
        )
    return "likely cause: query and gallery were read from different sets or splits"


def _is_relabelled(pids: NDArray[np.int64]) -> bool:
    return bool(pids[0] in (0, 1) and pids[-1] - pids[0] == len(pids) - 1)
