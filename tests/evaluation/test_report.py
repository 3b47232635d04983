import dataclasses
import json

import numpy as np
import pytest
from evaluation.literal import draw_distances, draw_labels

from resolute.core.config import attribute_texts
from resolute.core.errors import ProtocolError
from resolute.core.rng import Streams
from resolute.evaluation.protocol import PROTOCOLS
from resolute.evaluation.report import Report
from resolute.evaluation.scoring import evaluate
from resolute.evaluation.summary import Spread, Summary


def make_report(seed, protocol="mlr"):
    rng = np.random.default_rng(seed)
    query = draw_labels(rng, 30, num_pids=7)
    gallery = draw_labels(rng, 40, num_pids=7)
    gallery.pids[:7] = np.arange(1, 8)
    distances = draw_distances(rng, 30, 40, num_values=50)
    return evaluate(PROTOCOLS[protocol], distances, query, gallery, streams=Streams(0), trial=seed)


@pytest.mark.parametrize("protocol", ["mlr", "all-shot"])
def test_goes_through_json_unchanged(protocol):
    report = make_report(1, protocol)
    text = json.dumps(report.to_mapping(), allow_nan=False)
    assert Report.from_mapping(json.loads(text)) == report


def test_attributes_are_documented():
    assert set(attribute_texts(Report)) == {f.name for f in dataclasses.fields(Report)}
    assert set(attribute_texts(Summary)) == {f.name for f in dataclasses.fields(Summary)}


def test_says_what_it_was_measured_with():
    report = make_report(4)
    assert (report.protocol, report.trial, report.seed, report.num_draws) == ("mlr", 4, 0, 100)
    assert make_report(4, "all-shot").num_draws == 0
    assert make_report(4, "all-shot").std == {}


def test_broken_mappings_are_refused():
    mapping = make_report(1).to_mapping()
    with pytest.raises(ProtocolError, match=r"not a report of this version.*'cmc'"):
        Report.from_mapping({k: v for k, v in mapping.items() if k != "cmc"})
    with pytest.raises(ProtocolError, match=r"not a report of this version.*speed"):
        Report.from_mapping({**mapping, "speed": 1})
    with pytest.raises(ProtocolError, match="not a report of this version"):
        Report.from_mapping({**mapping, "per_rate": [1, 2]})


def test_summary_is_mean_and_deviation_over_trials():
    reports = [make_report(seed) for seed in range(4)]
    summary = Summary.of(reports)
    values = [r.cmc[0] for r in reports]
    assert summary.num_trials == 4
    assert summary.protocol == "mlr"
    assert summary.ranks[1].mean == pytest.approx(np.mean(values))
    assert summary.ranks[1].std == pytest.approx(np.std(values, ddof=1))
    assert list(summary.ranks) == [1, 5]  # seven identities
    assert summary.mean_ap.mean == pytest.approx(np.mean([r.mean_ap_step for r in reports]))
    assert summary.mean_inp.mean == pytest.approx(np.mean([r.mean_inp for r in reports]))
    rates = [r.per_rate["3"].rank5 for r in reports]
    assert summary.per_rate["3"]["rank5"] == Spread.of(rates)
    json.dumps(summary.to_mapping(), allow_nan=False)


def test_summary_of_a_rate_that_one_trial_lacks():
    first, second = make_report(1), make_report(2)
    second = dataclasses.replace(second, per_rate={"8": second.per_rate["2"]})
    summary = Summary.of([first, second])
    assert list(summary.per_rate) == ["2", "3", "4", "8"]
    assert summary.per_rate["8"]["rank1"] == Spread(mean=second.per_rate["8"].rank1, std=None)


def test_one_trial_has_no_deviation():
    assert Summary.of([make_report(1)]).ranks[1].std is None


def test_summary_refuses_other_protocols():
    with pytest.raises(ProtocolError, match=r"reports of one protocol, got .*all-shot.*mlr"):
        Summary.of([make_report(1), make_report(1, "all-shot")])
    with pytest.raises(ProtocolError, match="reports of one protocol"):
        Summary.of([])
