"""An evaluation that cannot be right says how many, why and what to do."""

import numpy as np
import pytest

from resolute.core.errors import ProtocolError
from resolute.core.rng import Streams
from resolute.core.types import Labels
from resolute.evaluation.candidates import Candidates
from resolute.evaluation.diagnosis import matched_queries
from resolute.evaluation.protocol import PROTOCOLS, Protocol
from resolute.evaluation.scoring import evaluate


def labels(pids, camids):
    pids = np.array(pids, dtype=np.int64)
    camids = np.broadcast_to(np.array(camids, dtype=np.int64), pids.shape)
    return Labels(pids=pids, camids=camids, rates=np.ones(len(pids)), heights=np.zeros_like(pids))


def score(query, gallery, protocol=PROTOCOLS["market"]):
    distances = np.zeros((len(query), len(gallery)))
    return evaluate(protocol, distances, query, gallery, streams=Streams(0))


def refusal(query, gallery, protocol=PROTOCOLS["market"]):
    with pytest.raises(ProtocolError) as caught:
        score(query, gallery, protocol)
    return str(caught.value)


def test_one_camera():
    message = refusal(labels([3, 3, 7], 0), labels([3, 7, 7, 9], 0))
    assert message == (
        "3 of 3 queries have no match in the gallery: 0 of 2 query identities have no gallery "
        "image, 2 lost a match to the camera rule 'same-camera' (3, 7); likely cause: every image "
        "has camera 0; if cameras are unknown or mean nothing, set --protocol.camera_rule none "
        "(with --features), of a run --protocol all-shot"
    )
    score(labels([3, 3, 7], 0), labels([3, 7, 7, 9], 0), Protocol(camera_rule="none"))


def test_relabelled_half():
    message = refusal(
        labels([0, 1, 2], 0), labels([103, 207, 311], 1), Protocol(distractors="none")
    )
    assert "3 of 3 query identities have no gallery image (0, 1, 2)" in message
    assert "identities of the query run without a gap from 0" in message
    assert "give both sides the identities of the data set" in message
    message = refusal(labels([103, 207], 0), labels([1, 2, 3, -1], 1))
    assert "identities of the gallery run without a gap from 1" in message


def test_other_split():
    message = refusal(labels([5, 9], 0), labels([6, 11], 1))
    assert "read from different sets or splits" in message
    assert "skip" not in message  # nothing would be left


def test_some_queries_lost():
    query = labels([1, 4, 4, 6, 9, 10, 12], [0, 0, 0, 1, 0, 0, 0])
    gallery = labels([1, 4, 6], [1, 0, 1])
    message = refusal(query, gallery)
    assert message.startswith(
        "6 of 7 queries have no match in the gallery: 3 of 6 query identities have no gallery "
        "image (9, 10, 12), 2 lost a match to the camera rule 'same-camera' (4, 6)"
    )
    assert "these people were seen by one camera only" in message
    assert message.endswith("--protocol.on_unmatched skip (with --features)")
    report = score(query, gallery, Protocol(on_unmatched="skip"))
    assert (report.num_query, report.num_valid) == (7, 1)


def test_separate_camera_says_so():
    message = refusal(labels([1, 2], [0, 1]), labels([1, 2], [0, 1]), PROTOCOLS["separate-camera"])
    assert "2 lost a match to the camera rule 'separate-camera' (1, 2)" in message


def test_long_lists_are_cut():
    message = refusal(labels(range(2, 42, 2), 0), labels(range(3, 43, 2), 1))
    assert "20 of 20 query identities have no gallery image (2, 4, 6, ...)" in message


@pytest.mark.parametrize("mode", ["skip", "zero"])
def test_no_match_at_all_is_always_refused(mode):
    message = refusal(labels([5], 0), labels([6], 1), Protocol(on_unmatched=mode))
    assert "1 of 1 queries" in message


def test_junk_is_no_match():
    assert "1 of 1 query identities" in refusal(labels([5], 0), labels([-1, 6], 1))


def test_impossible_queries():
    with pytest.raises(ProtocolError, match="2 queries have identity -1, which marks junk"):
        score(labels([-1, 5, -1], 0), labels([5], 1))
    with pytest.raises(ProtocolError, match="1 queries have identity 0, which marks distractors"):
        score(labels([0, 5], 0), labels([5], 1))
    with pytest.raises(ProtocolError, match="one query and one gallery image, got 0 and 1"):
        score(labels([], 0), labels([5], 1))


def test_matched_queries_agree_with_each_query_alone():
    rng = np.random.default_rng(0)
    query = labels(rng.integers(1, 9, 50), rng.integers(0, 3, 50))
    gallery = labels(rng.integers(1, 9, 12), rng.integers(0, 3, 12))
    candidates = Candidates(gallery.pids, gallery.camids, camera_rule="same-camera")
    wanted = [
        any(p == q and c != d for p, c in zip(gallery.pids, gallery.camids, strict=True))
        for q, d in zip(query.pids, query.camids, strict=True)
    ]
    assert matched_queries(candidates, query).tolist() == wanted
