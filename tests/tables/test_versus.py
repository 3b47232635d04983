"""Results against results: how they pair, what is said of them, and the command."""

from dataclasses import replace

import pytest

from resolute.cli import main as cli
from resolute.core.config import to_mapping
from resolute.core.errors import ConfigError, ProtocolError
from resolute.recipes.catalogue import find_recipe
from resolute.tables.versus import paired, unpaired, versus_grid


@pytest.fixture(scope="module")
def kept(anchor):
    return replace(anchor, measures={})


def cell(kept, method, trial, hits, *, seed=0, precision="float32", people=None, **changes):
    """A cell whose identities 0.. have the Rank-1 given, at r = 8 half of it."""
    config = to_mapping(find_recipe(method, "mlr-viper"))
    config["data"]["trial"], config["train"]["seed"] = trial, seed
    for path, value in changes.items():
        section, name = path.split("__")
        config[section][name] = value
    ids = range(len(hits)) if people is None else people
    protocol = kept.scores["protocol"]
    scores = {}
    for name, share in (("protocol", 1.0), ("r=8", 0.5)):
        found = [share * hit for hit in hits]
        scores[name] = replace(
            protocol,
            per_identity=tuple(zip(ids, found, strict=True)),
            per_identity_ap=(),
            cmc=(sum(found) / len(found), *protocol.cmc[1:]),
        )
    training = {"steps": 1, "duration_s": 60.0, "precision": precision}
    return replace(kept, method=method, config=config, scores=scores, training=training)


def row(grid, score="protocol"):
    return next(dict(zip(grid.head, r, strict=True)) for r in grid.rows if r[0] == score)


def test_what_one_side_has_over_the_other(kept):
    ours = {f"a{t}": cell(kept, "ftwa", t, [1.0, 0.0, 1.0, 1.0]) for t in range(3)}
    theirs = {f"b{t}": cell(kept, "baseline", t, [1.0, 0.0, 0.0, 1.0]) for t in (2, 1, 0, 7)}
    pairs = paired(ours, theirs)
    assert [(a.method, b.method) for a, b in pairs] == [("baseline", "ftwa")] * 3
    grid = versus_grid(pairs)
    assert [r[0] for r in grid.rows] == ["protocol", "r=8"]
    found = row(grid)
    assert (found["cells"], found["gain"]) == ("3", "+25.0")
    assert found["Rank-1"].startswith("75.0")
    assert found["other's Rank-1"].startswith("50.0")
    assert found["claim"] == "no"  # one person of four: the interval reaches zero
    assert row(grid, "r=8")["gain"] == "+12.5"
    assert [r[0] for r in versus_grid(pairs, ["r=8"]).rows] == ["r=8"]
    assert found["beyond HR queries"] == "–", "no undegraded queries were scored"
    with_hr = [
        tuple(replace(r, scores={**r.scores, "hr": r.scores["r=8"]}) for r in pair)
        for pair in pairs
    ]
    assert row(versus_grid(with_hr))["beyond HR queries"].startswith("+12.5 (")
    told = unpaired(ours, theirs)
    assert told == "Left out, as one side alone has it: trial 7 seed 0."
    assert told in versus_grid(pairs, left_out=told).notes
    assert unpaired(ours, ours) == ""


def test_map_in_place_of_rank1(kept):
    def with_ap(result, values):
        report = result.scores["protocol"]
        known = replace(report, per_identity_ap=tuple(enumerate(values)))
        known = replace(known, mean_ap_step=sum(values) / len(values))
        return replace(result, scores={"protocol": known})

    ours = with_ap(cell(kept, "ftwa", 0, [1.0, 0.0]), [1.0, 0.5])
    theirs = with_ap(cell(kept, "baseline", 0, [1.0, 0.0]), [1.0, 0.25])
    grid = versus_grid([(theirs, ours)], metric="map")
    assert ", mAP: " in grid.title
    found = row(grid)
    assert (found["mAP"], found["other's mAP"], found["gain"]) == ("75.0", "62.5", "+12.5")
    assert row(versus_grid([(theirs, ours)]))["gain"] == "0.0"
    with pytest.raises(ProtocolError, match="baseline, trial 0, seed 0: mAP by person is not in"):
        versus_grid([(cell(kept, "baseline", 0, [1.0, 0.0]), ours)], ["protocol"], metric="map")


def test_the_other_way_round_the_sign_turns(kept):
    ours, theirs = cell(kept, "ftwa", 0, [1.0, 0.0]), cell(kept, "baseline", 0, [0.0, 0.0])
    assert row(versus_grid([(ours, theirs)]))["gain"] == "-50.0"
    assert row(versus_grid([(theirs, theirs)]))["gain"] == "0.0"


def test_it_says_what_they_differ_in(kept):
    usual = cell(kept, "baseline-twins", 0, [1.0, 0.0])
    other = cell(
        kept, "baseline-twins", 0, [1.0, 0.0], precision="bf16", loader__twin_range=(1.0, 8.0)
    )
    said = versus_grid([(usual, other)]).notes[0]
    assert said == (
        "They differ in: trained in bf16 (other: float32); loader.twin_range 1.0,8.0 (other: none)."
    )
    assert versus_grid([(usual, usual)]).notes[0] == "They differ in: no setting."
    # Which scores there are is no news, how they came to be is.
    rows = cell(kept, "baseline-twins", 0, [1.0, 0.0], evaluation__rerank=True)
    assert versus_grid([(usual, rows)]).notes[0] == "They differ in: no setting."
    near = cell(kept, "baseline-twins", 0, [1.0, 0.0], evaluation__rerank_k1=30)
    said = versus_grid([(usual, near)]).notes[0]
    assert said == "They differ in: evaluation.rerank_k1 30 (other: 20)."
    # Settings of another method are no news, the method is.
    said = versus_grid([(usual, cell(kept, "rain", 0, [1.0, 0.0]))]).notes[0]
    assert said.startswith("They differ in: method rain (other: baseline-twins)")
    assert "method." not in said


def test_what_does_not_pair_is_named(kept):
    a, b = cell(kept, "ftwa", 0, [1.0]), cell(kept, "ftwa", 1, [1.0], seed=2)
    with pytest.raises(ConfigError, match="x has trial 0 seed 0, y has trial 1 seed 2"):
        paired({"x": a}, {"y": b})
    with pytest.raises(ConfigError, match="x and z are both of trial 0, seed 0"):
        paired({"x": a, "z": a}, {"y": b})
    elsewhere = replace(a, data=a.data.replace("viper", "caviar"))
    with pytest.raises(ConfigError, match="only results of one benchmark"):
        paired({"x": a}, {"y": elsewhere})
    with pytest.raises(ConfigError, match="score 'flip': not in all results; they have protocol"):
        versus_grid([(a, a)], ["flip"])
    with pytest.raises(ProtocolError):
        versus_grid([(a, cell(kept, "baseline", 0, [1.0], people=[5]))])
    wider = {name: replace(report, protocol="all-shot") for name, report in a.scores.items()}
    with pytest.raises(ProtocolError, match="not of the same protocol"):
        versus_grid(paired({"x": a}, {"y": replace(a, scores=wider)}))


def test_the_command_reads_files_and_run_folders(kept, tmp_path, capsys):
    folder = tmp_path / "run"
    cell(kept, "ftwa", 0, [1.0, 1.0]).write(folder / "result.json")
    cell(kept, "baseline", 0, [1.0, 0.0]).write(tmp_path / "b.json")
    words = ["gain", str(folder), "--over", str(tmp_path / "b.json"), "--score", "protocol"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "+50.0" in out
    assert "They differ in: method ftwa (other: baseline)" in out
    assert cli.main([*words, "--metric", "rank1"]) == 0
    assert capsys.readouterr().out == out
    with pytest.raises(SystemExit) as end:
        cli.main(["gain", str(tmp_path / "none"), "--over", str(folder)])
    assert end.value.code == 2
    assert "cannot read result" in capsys.readouterr().err
