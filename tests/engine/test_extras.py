"""Scores asked for by name: each is what its own definition gives, and moves no other."""

from dataclasses import replace

import numpy as np
import pytest
from engine.small import small_config
from PIL import Image

from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.types import Embedding, Labels
from resolute.data.benchmark import open_split
from resolute.engine.config import EvaluationConfig
from resolute.engine.extras import Scorer
from resolute.engine.maps import draw_activation_maps
from resolute.engine.result import Result
from resolute.engine.run import train
from resolute.engine.score import evaluate
from resolute.evaluation.expansion import expand_queries
from resolute.evaluation.protocol import PROTOCOLS
from resolute.evaluation.rerank import rerank_rows
from resolute.evaluation.scoring import evaluate as score
from resolute.evaluation.verification import verify

ASKED = EvaluationConfig(rerank=True, rerank_k1=4, rerank_k2=2, expand=2, expand_alpha=3.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extras")
    config = small_config(cache=folder / "cache", train__epochs=1, evaluation__unseen_rates="")
    train(config, folder / "run")
    return folder / "run", config


def side(seed, num, *, junk=False):
    rng = np.random.default_rng(seed)
    pids = rng.integers(1, 6, num)
    if junk:
        pids[::4] = -1
    vectors = np.random.default_rng(9).normal(size=(8, 2, 6))[pids] + rng.normal(size=(num, 2, 6))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = rng.uniform(0.2, 1, (num, 2)).astype(np.float32)
    labels = Labels(
        pids=pids,
        camids=rng.integers(0, 3, num),
        rates=np.ones(num),
        heights=np.zeros(num, dtype=np.int64),
    )
    return Embedding(vectors=vectors.astype(np.float32), quality=quality), labels


def scorer(gallery, *, has_verification=False, protocol="all-shot"):
    return Scorer(
        PROTOCOLS[protocol],
        gallery,
        streams=Streams(3),
        trial=2,
        has_verification=has_verification,
    )


def test_extras_are_scored_under_the_same_protocol():
    query, gallery = side(1, 12), side(2, 40)
    found = scorer(gallery, protocol="mlr")
    found.put("protocol", query)
    found.put_extras(ASKED, query)
    assert list(found.scores) == ["protocol", "expanded", "rerank"]
    common = {"streams": Streams(3), "trial": 2}
    rows = rerank_rows(query[0], gallery[0], k1=4, k2=2, share=0.3)
    wanted = score(PROTOCOLS["mlr"], rows, query[1], gallery[1], **common)
    assert found.scores["rerank"] == wanted
    expanded = expand_queries(query[0], gallery[0], num_neighbours=2, alpha=3.0)
    wanted = score(PROTOCOLS["mlr"], (expanded, gallery[0]), query[1], gallery[1], **common)
    assert found.scores["expanded"] == wanted
    assert found.scores["protocol"] == score(
        PROTOCOLS["mlr"], (query[0], gallery[0]), query[1], gallery[1], **common
    )


def test_nothing_is_asked_for_by_default():
    query, gallery = side(1, 6), side(2, 20)
    found = scorer(gallery)
    found.put("protocol", query)
    found.put_extras(EvaluationConfig(), query)
    assert list(found.scores) == ["protocol"]
    assert found.verification == {}


def test_junk_is_nobodys_neighbour():
    query, gallery = side(1, 10), side(2, 40, junk=True)
    kept = np.flatnonzero(gallery[1].pids != -1)
    clean = gallery[0].take(kept), gallery[1].take(kept)
    with_junk, without = scorer(gallery), scorer(clean)
    with_junk.put_extras(ASKED, query)
    without.put_extras(ASKED, query)
    assert with_junk.scores == without.scores


def test_pairs_are_judged_for_every_score_but_rerank():
    query, gallery = side(1, 10), side(2, 40)
    found = scorer(gallery, has_verification=True)
    found.put("protocol", query)
    found.put_extras(ASKED, query)
    assert list(found.verification) == ["protocol", "expanded"]
    wanted = verify(PROTOCOLS["all-shot"], (query[0], gallery[0]), query[1], gallery[1])
    assert found.verification["protocol"] == wanted


def test_a_run_scores_what_it_is_asked_for(trained):
    folder, _ = trained
    plain = evaluate(folder)
    asked = {
        "evaluation.flip": True,
        "evaluation.rerank": True,
        "evaluation.expand": 2,
        "evaluation.verification": True,
    }
    result = evaluate(folder, overrides=asked)
    names = ["protocol", "hr", "flip", "expanded", "rerank"]
    assert list(result.scores) == names
    assert list(result.verification) == names[:-1]
    for name in plain.scores:  # nothing that was there before has moved
        assert result.scores[name] == plain.scores[name]
    mirrored = evaluate(folder, overrides={"method.flip": True})
    assert result.scores["flip"] == mirrored.scores["protocol"]
    assert Result.read(folder / "result.json") == plain
    assert plain.verification == {}


def test_verification_survives_the_file(trained, tmp_path):
    folder, _ = trained
    result = evaluate(folder, overrides={"evaluation.verification": True})
    result.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == result


def test_results_without_verification_still_read(trained, tmp_path):
    folder, _ = trained
    result = evaluate(folder)
    result.write(tmp_path / "result.json")
    text = (tmp_path / "result.json").read_text()
    old = text.replace(',\n "verification": {}', "")
    assert old != text
    (tmp_path / "result.json").write_text(old)
    assert Result.read(tmp_path / "result.json") == result


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rerank_k1": 0}, "evaluation.rerank_k1: expected >= 1, got 0"),
        ({"rerank_k2": 0}, "evaluation.rerank_k2: expected >= 1, got 0"),
        ({"rerank_lambda": 1.5}, "evaluation.rerank_lambda: expected 0 to 1, got 1.5"),
        ({"expand": -1}, "evaluation.expand: expected >= 0, got -1"),
        ({"expand_alpha": -1.0}, "evaluation.expand_alpha: expected >= 0"),
    ],
)
def test_settings_have_ranges(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(EvaluationConfig(), **changes)


def test_maps_are_drawn_of_evenly_spread_queries(trained, tmp_path):
    folder, config = trained
    query = open_split(config.data).query
    paths = draw_activation_maps(folder, tmp_path / "maps", num_queries=3)
    assert [int(path.name[:5]) for path in paths] == [
        0,
        round((len(query) - 1) / 2),
        len(query) - 1,
    ]
    assert sorted((tmp_path / "maps").iterdir()) == paths
    with Image.open(paths[0]) as picture:
        assert picture.size == (3 * 32 + 2 * 4, 64)
        assert picture.text["Description"] == "input, hr, lr"
    first = [path.read_bytes() for path in paths]
    again = draw_activation_maps(folder, tmp_path / "maps", num_queries=3)
    assert [path.read_bytes() for path in again] == first
    everything = draw_activation_maps(folder, tmp_path / "all", num_queries=10_000)
    assert len(everything) == len(query)
    with pytest.raises(ConfigError, match="at least 1 query, got 0"):
        draw_activation_maps(folder, tmp_path / "maps", num_queries=0)
