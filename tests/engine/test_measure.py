"""The best constant share and the histogram of shares, against their literal definitions."""

from dataclasses import replace

import numpy as np
import pytest
from engine.small import small_config
from methods.builders import small_method

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Embedding, Labels, Resolution
from resolute.data.benchmark import open_split
from resolute.engine import measure as measuring
from resolute.engine.constant import (
    best_constant,
    best_of_each,
    choosing_split,
    with_constant,
)
from resolute.engine.measure import share_histogram
from resolute.evaluation.protocol import find_protocol
from resolute.evaluation.scoring import evaluate


def random_side(num=12, *, index=0, noise=(0.6, 1.4)):
    """Embeddings of six identities, the HR space less noisy than the LR space."""
    rng = Streams(3).numpy(Stream.TIES, index)
    centres = Streams(3).numpy(Stream.TIES, 9).normal(size=(6, 2, 5))
    pids = np.arange(num) % 6
    vectors = centres[pids] + rng.normal(size=(num, 2, 5)) * np.array(noise)[:, None]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = rng.uniform(0.05, 1, size=(num, 2))
    labels = Labels(
        pids=pids + 1,
        camids=np.zeros(num, dtype=np.int64),
        rates=np.ones(num),
        heights=np.full(num, 64),
    )
    return Embedding(vectors=vectors.astype(np.float32), quality=quality.astype(np.float32)), labels


def test_the_best_constant_is_the_best_of_a_literal_search():
    query, gallery = random_side(index=1), random_side(index=2)
    scored = {"streams": Streams(0), "trial": 0}
    protocol = find_protocol("mlr")
    choice = best_constant(query, gallery, protocol=protocol, **scored)
    found = {}
    for step in range(21):
        share = step / 20
        pair = (with_constant(query[0], share), with_constant(gallery[0], share))
        report = evaluate(protocol, pair, query[1], gallery[1], **scored)
        found[share] = (report.ranks[1], report.mean_ap)
    best = max(found.values())
    tied = [share for share, scores in found.items() if scores == pytest.approx(best)]
    assert (choice.rank1, choice.mean_ap) == pytest.approx(best)
    assert choice.share == min(tied, key=lambda share: abs(share - 0.5))
    assert (choice.low, choice.high) == (min(tied), max(tied))
    assert choice.share > 0.5  # the cleaner space is trusted more


def test_the_best_of_each_takes_every_persons_own_share():
    query, gallery = random_side(index=1), random_side(index=2)
    scored = {"protocol": find_protocol("mlr"), "streams": Streams(0), "trial": 0}
    found = best_of_each(query, gallery, **scored)
    by_person = {}
    for step in range(21):
        pair = (with_constant(query[0], step / 20), with_constant(gallery[0], step / 20))
        report = evaluate(scored["protocol"], pair, query[1], gallery[1], streams=Streams(0))
        for pid, rank1 in report.per_identity:
            by_person.setdefault(pid, []).append(rank1)
    assert found == pytest.approx(np.mean([max(ranks) for ranks in by_person.values()]))
    assert found > best_constant(query, gallery, **scored).rank1


def test_shares_that_all_do_equally_well_end_in_the_middle():
    clean = random_side(noise=(0.0, 0.0))
    choice = best_constant(clean, clean, protocol=find_protocol("mlr"), streams=Streams(0), trial=0)
    assert (choice.share, choice.low, choice.high) == (0.5, 0.0, 1.0)


def test_one_space_has_nothing_to_share():
    embedding, labels = random_side()
    single = replace(embedding, vectors=embedding.vectors[:, :1], quality=embedding.quality[:, :1])
    with pytest.raises(ConfigError, match="expected embeddings with 2 streams, got 1"):
        best_constant(
            (single, labels),
            (single, labels),
            protocol=find_protocol("mlr"),
            streams=Streams(0),
            trial=0,
        )


def test_the_choice_sees_training_identities_alone_as_many_as_are_tested(tmp_path):
    split = open_split(small_config(cache=tmp_path).data)
    few = replace(split, query=tuple(r for r in split.query if r.pid in {split.query[0].pid}))
    for given, number in ((split, 12), (few, 1)):
        chosen = choosing_split(given, streams=Streams(0))
        pids = {r.pid for r in (*chosen.query, *chosen.gallery)}
        assert len(pids) == number
        assert pids <= {r.pid for r in split.train}
        assert {r.resolution for r in chosen.query} == {Resolution.LR}
        assert {r.resolution for r in chosen.gallery} == {Resolution.HR}
        assert chosen == choosing_split(given, streams=Streams(0))
    with pytest.raises(ConfigError, match="no training identity has both"):
        choosing_split(replace(split, train=()), streams=Streams(0))


def test_the_choice_never_sees_people_it_is_scored_on(tmp_path, monkeypatch):
    config = small_config(cache=tmp_path, data__validation=4)
    split = open_split(config.data)
    looked_at = set()

    def watched(query, gallery, **more):
        looked_at.update(query[1].pids.tolist(), gallery[1].pids.tolist())
        return best_constant(query, gallery, **more)

    monkeypatch.setattr(measuring, "best_constant", watched)
    bench = measuring._Bench(small_method("ftwa").eval(), config, "cpu")
    report, found = bench.constant(
        split, bench.embedded(split.query), bench.embedded(split.gallery)
    )
    scored = {pid for pid, _ in report.per_identity}
    assert scored == {r.pid for r in split.query}
    assert len(looked_at) == found["count"] == 4
    assert looked_at <= {r.pid for r in split.train}
    assert found["identities"] == "training"


def test_the_histogram_counts_every_pair():
    (query, _), (gallery, _) = random_side(7, index=1), random_side(9, index=2)
    counts, shares = [0] * 10, []
    for q in query.quality.astype(float):
        for g in gallery.quality.astype(float):
            a, b = q[0] * g[0], q[1] * g[1]
            share = a / (a + b)
            shares.append(share)
            counts[min(9, int(share * 10))] += 1
    found = share_histogram(query, gallery)
    assert found["counts"] == counts
    assert found["mean"] == pytest.approx(np.mean(shares))
    assert found["std"] == pytest.approx(np.std(shares))
