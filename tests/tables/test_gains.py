"""What each part gives, by hand on few identities; and how a page is laid out."""

from dataclasses import replace

import pytest

from resolute.core.config import to_mapping
from resolute.core.errors import ProtocolError
from resolute.recipes.catalogue import find_recipe
from resolute.tables.gains import CONTROLS, gains
from resolute.tables.layout import Grid, markdown
from resolute.tables.results import commands
from resolute.tables.sections import grids


@pytest.fixture(scope="module")
def kept(anchor):
    training = {"steps": 1, "duration_s": 60.0}
    return replace(anchor, method="ftwa", training=training)


def cell(kept, method, trial, hits, *, seed=0, hr=None, **changes):
    """A cell whose identities 0.. have the Rank-1 given; as HR queries ``hr``, all found."""
    config = to_mapping(find_recipe(method, "mlr-viper"))
    config["data"]["trial"], config["train"]["seed"] = trial, seed
    for path, value in changes.items():
        section, name = path.split("__")
        config[section][name] = value
    rank1 = sum(hits) / len(hits)
    report = replace(
        kept.scores["protocol"],
        per_identity=tuple(enumerate(hits)),
        per_identity_ap=(),
        cmc=(rank1, *kept.scores["protocol"].cmc[1:]),
    )
    found = [1.0] * len(hits) if hr is None else hr
    undegraded = replace(report, per_identity=tuple(enumerate(found)))
    scores = {"protocol": report, "hr": undegraded}
    return replace(kept, method=method, config=config, scores=scores, measures={})


def test_gains_are_differences_of_the_cells_both_have(kept):
    results = [
        cell(kept, "baseline-twins", 0, [0.0, 0.0, 1.0, 1.0]),
        cell(kept, "baseline-twins", 1, [0.0, 0.0, 0.0, 1.0]),
        cell(kept, "ftwa", 0, [1.0, 0.0, 1.0, 1.0]),
        cell(kept, "ftwa", 1, [0.0, 1.0, 1.0, 1.0]),
        cell(kept, "ftwa", 2, [0.0, 0.0, 0.0, 0.0]),  # no control in that trial
    ]
    (gain,) = gains(results)
    assert (gain.row, gain.control, gain.part) == ("ftwa", "baseline-twins", "all modules")
    assert gain.difference.num_cells == 2
    assert gain.difference.mean == pytest.approx((0.25 + 0.5) / 2)
    # The controls' gap: 1 - 0.5 and 1 - 0.25.
    assert gain.gap.mean == pytest.approx((0.5 + 0.75) / 2)
    assert gain.share_of_gap == pytest.approx(0.375 / ((0.5 + 0.75) / 2))
    # Undegraded queries gain nothing: all of it is a gain in resolution.
    assert gain.beyond.mean == pytest.approx(gain.difference.mean)


def test_nothing_is_gained_by_another_protocol(kept):
    results = [cell(kept, row, 0, [0.0, 1.0]) for row in ("baseline-twins", "ftwa")]
    scores = results[1].scores
    others = {name: replace(report, protocol="all-shot") for name, report in scores.items()}
    for score in ("protocol", "hr"):
        with pytest.raises(ProtocolError, match=r"not of the same protocol: .* and all-shot"):
            gains([results[0], replace(results[1], scores=others)], score=score)


def test_a_cell_counts_once_whatever_else_it_was_scored_by(kept):
    first, second = cell(kept, "ftwa", 0, [1.0, 0.0]), cell(kept, "ftwa", 1, [1.0, 1.0])
    again = cell(kept, "ftwa", 0, [1.0, 0.0], evaluation__rerank=True)
    again = replace(again, scores={**again.scores, "rerank": second.scores["protocol"]})
    for results in ([first, again, second], [again, first, second]):
        assert grids(results) == grids([first, second])
    other = cell(kept, "ftwa", 0, [0.0, 0.0], evaluation__rerank=True)
    with pytest.raises(ProtocolError, match="two results of trial 0, seed 0 have other scores"):
        grids([first, other, second])
    wider = {name: replace(report, protocol="all-shot") for name, report in first.scores.items()}
    with pytest.raises(ProtocolError, match=r"was scored by two protocols, .* and all-shot; keep"):
        grids([first, replace(first, scores=wider)])


def test_seeds_are_averaged_within_their_half(kept):
    results = [
        cell(kept, m, trial, hits, seed=seed)
        for m, hits in (("ftwa_r-not", [0.0, 0.0, 1.0]), ("ftwa_r", [1.0, 0.0, 1.0]))
        for trial in (0, 1)
        for seed in (0, 1)
    ]
    (gain,) = gains(results)
    assert (gain.difference.num_cells, gain.difference.num_halves) == (4, 2)
    assert gain.difference.same_sign == 1


def test_a_share_is_given_of_a_gap_that_is_there(kept):
    few, many = [1.0] * 30 + [0.0] * 70, [1.0] * 40 + [0.0] * 60
    results = [
        cell(kept, "baseline", 0, few, hr=[1.0] * 80 + [0.0] * 20),
        cell(kept, "baseline-twins", 0, many),
    ]
    (gain,) = gains(results)
    assert gain.gap.mean == pytest.approx(0.5)
    assert 0 < gain.gap.low < 0.5 < gain.gap.high
    assert gain.share_of_gap == pytest.approx(0.1 / 0.5)
    grid = next(grid for grid in grids(results) if grid.title.startswith("What each part"))
    row = dict(zip(grid.head, grid.rows[0], strict=True))
    assert row["share of it"] == "20 %"
    assert row["gap of the control"].startswith("+50.0 (+4")


def test_what_undegraded_queries_gain_is_no_gain_in_resolution(kept):
    results = [
        cell(kept, "baseline", 0, [0.0, 0.0, 1.0, 1.0], hr=[0.0, 0.0, 1.0, 1.0]),
        cell(kept, "baseline-twins", 0, [1.0, 1.0, 1.0, 1.0], hr=[1.0, 0.0, 1.0, 0.0]),
    ]
    (gain,) = gains(results)
    # By person: 1 - 1, 1 - 0, 0 - 0, 0 - (-1).
    assert gain.beyond.mean == pytest.approx((0 + 1 + 0 + 1) / 4)
    grid = next(grid for grid in grids(results) if grid.title.startswith("What each part"))
    assert dict(zip(grid.head, grid.rows[0], strict=True))["beyond HR queries"].startswith("+50.0")
    assert gains(results, score="hr")[0].beyond is None
    protocol_alone = replace(results[1], scores={"protocol": results[1].scores["protocol"]})
    assert gains([results[0], protocol_alone])[0].beyond is None
    fewer = replace(results[1].scores["hr"], per_identity=((0, 1.0), (1, 1.0), (2, 1.0)))
    other = replace(results[1], scores={**results[1].scores, "hr": fewer})
    assert gains([results[0], other])[0].beyond is None, "scores of other people"


def test_gains_at_unseen_rates_are_a_table_of_their_own(kept):
    results = []
    for method, hits in (("baseline", [0.0, 0.0]), ("baseline-twins", [1.0, 0.0])):
        usual = cell(kept, method, 0, [1.0, 1.0])
        at_8 = replace(usual.scores["protocol"], per_identity=tuple(enumerate(hits)))
        results.append(replace(usual, scores={**usual.scores, "r=8": at_8, "r=16": at_8}))
    assert gains(results)[0].difference.mean == 0
    (gain,) = gains(results, score="r=8")
    assert gain.difference.mean == pytest.approx(0.5)
    assert gain.gap.mean == 1
    titles = [grid.title for grid in grids(results) if grid.title.startswith("What each part")]
    assert titles == [
        "What each part gives, Rank-1 in points",
        "What each part gives at r = 8, Rank-1 in points",
        "What each part gives at r = 16, Rank-1 in points",
        "What each part gives to undegraded queries, Rank-1 in points",
    ]


def test_gains_of_map_are_of_the_cells_that_keep_it(kept):
    def ranked(method, trial, precisions):
        usual = cell(kept, method, trial, [1.0, 0.0])
        ap = tuple(enumerate(precisions))
        scores = {name: replace(r, per_identity_ap=ap) for name, r in usual.scores.items()}
        return replace(usual, scores=scores)

    results = [
        ranked("baseline", 0, [1.0, 0.2]),
        ranked("baseline-twins", 0, [1.0, 0.5]),
        ranked("baseline", 1, [1.0, 0.2]),
        cell(kept, "baseline-twins", 1, [1.0, 0.0]),  # of before it was kept
    ]
    (gain,) = gains(results, metric="map")
    assert gain.difference.num_cells == 1
    assert gain.difference.mean == pytest.approx(0.15)
    titles = [grid.title for grid in grids(results)]
    assert titles[-3:] == [
        "What each part gives, Rank-1 in points",
        "What each part gives, mAP in points",
        "What each part gives to undegraded queries, Rank-1 in points",
    ]


def test_undegraded_queries_have_no_gap_to_close(kept):
    results = [
        cell(kept, "baseline", 0, [1.0, 1.0], hr=[1.0, 0.0]),
        cell(kept, "baseline-twins", 0, [1.0, 1.0], hr=[1.0, 1.0]),
    ]
    *_, grid = grids(results)
    row = dict(zip(grid.head, grid.rows[0], strict=True))
    assert row["gain"] == "+50.0"
    assert "gap of the control" not in row


def test_a_control_in_other_numbers_is_marked(kept):
    def trained(method, precision):
        usual = cell(kept, method, 0, [1.0, 0.0])
        return replace(usual, training={**usual.training, "precision": precision})

    ours = trained("baseline-twins", "float32")
    for precision, against in (("float32", "`baseline`"), ("bf16", "`baseline`, bf16")):
        *_, grid = grids([trained("baseline", precision), ours])
        assert dict(zip(grid.head, grid.rows[0], strict=True))["against"] == against


def test_no_gap_no_share(kept):
    results = [
        cell(kept, "baseline", 0, [1.0, 0.0], hr=[0.0, 1.0]),
        cell(kept, "baseline-twins", 0, [1.0, 1.0]),
    ]
    (gain,) = gains(results)
    assert gain.gap.mean == 0
    assert gain.share_of_gap is None
    results = [replace(r, scores={"protocol": r.scores["protocol"]}) for r in results]
    assert gains(results)[0].gap is None


def test_every_control_is_a_row_of_the_table():
    from resolute.methods.variants import VARIANTS

    assert {name for row, control, _ in CONTROLS for name in (row, control)} <= set(VARIANTS)


def test_cells_of_other_settings_are_rows_of_their_own(kept):
    usual = [cell(kept, "ftwa", 0, [1.0, 0.0]), cell(kept, "baseline-twins", 0, [0.0, 0.0])]
    other = [cell(kept, "ftwa", 0, [1.0, 1.0], loader__lr_rate="redraw")]
    scores, *_, gained = grids([*usual, *other])
    assert [row[0] for row in scores.rows] == ["`baseline-twins`", "`ftwa`", "`ftwa` (a)"]
    assert "(a) loader.lr_rate=redraw." in scores.notes
    assert len(gained.rows) == 1
    assert gained.rows[0][0] == "`ftwa`"
    alone = grids(other)[0]
    assert alone.rows[0][0] == "`ftwa`"
    assert alone.notes[0].endswith("loader.lr_rate=redraw.")


def test_trials_and_seeds_are_worded_in_short(kept):
    results = [cell(kept, "ftwa", t, [1.0], seed=s) for s in (0, 1) for t in range(10)]
    assert grids(results)[0].rows[0][2] == "0–9 (seed 0, 1)"
    assert grids(results[:10])[0].rows[0][2] == "0–9"
    assert grids(results[:12])[0].rows[0][2] == "0–9; 0, 1 (seed 1)"


def test_measures_become_tables(kept):
    counts = [0] * 9 + [8]
    measures = {
        "constant": {"share": 0.35, "identities": "training", "best_of_each": 0.875},
        "share_of_hr": {"counts": counts, "mean": 0.97, "std": 0.01},
        "recovery": {"2": 0.5, "8": -0.25},
        "transform": {"parameters": 1234, "macs": 5_000_000},
    }
    result = replace(kept, measures=measures)
    result = replace(result, scores={**result.scores, "fusion=constant": result.scores["protocol"]})
    by_title = {grid.title.split(",")[0].split(":")[0]: grid for grid in grids([result])}
    fusions = by_title["Fusions of one checkpoint"]
    assert fusions.rows[0][-2:] == ("0.35", "87.5")
    assert fusions.rows[0][-3] == f"{100 * result.scores['protocol'].ranks[1]:.1f}"
    assert fusions.rows[0][2] == "–"
    del measures["constant"]["best_of_each"]  # of results kept before it was measured
    assert grids([result])[1].rows[0][-2:] == ("0.35", "–")
    assert by_title["Share of the HR space a / (a + b)"].rows[0][-3:] == ("100.0", "0.97", "0.010")
    assert by_title["What T recovers"].rows[0][2:] == ("50.0", "-25.0", "1,234", "5")
    config = {**kept.config, "train": {**kept.config["train"], "seed": 1}}
    other = replace(result, config=config, measures={**measures, "recovery": {"2": 0.7, "16": 0.1}})
    recovered = next(g for g in grids([result, other]) if g.title.startswith("What T recovers"))
    assert recovered.head[2:5] == ("r = 2", "r = 8", "r = 16")
    assert recovered.rows[0][2:5] == ("60.0 ± 14.1", "-25.0", "10.0")


def test_commands_of_one_table_become_one(kept):
    words = "resolute table table2 --data mlr-viper --rows {} --trials {} --seeds 0"
    results = [
        replace(kept, command=words.format(row, trial))
        for row in ("baseline", "ftwa")
        for trial in (10, 2)
    ]
    results.append(replace(kept, command="resolute train ftwa --out RUN"))
    assert commands(results) == [
        words.format("baseline,ftwa", "2,10"),
        "resolute train ftwa --out RUN",
    ]


def test_markdown_of_a_grid():
    grid = Grid(title="T", head=("a", "b"), rows=(("1", "2"),), notes=("So.",))
    assert markdown(grid, level=3) == "### T\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nSo.\n"


def test_rows_without_twins_are_named_beside_settings_of_twins(kept):
    changed = {"loader__twin_range": [1.0, 8.0]}
    results = [
        cell(kept, "baseline", 0, [1.0, 0.0], **changed),
        cell(kept, "baseline-twins", 0, [1.0, 0.0], **changed),
    ]
    scores, *_ = grids(results)
    assert any("loader.twin_range=1.0,8.0" in note for note in scores.notes)
    assert "Trained without twins, whatever their settings: `baseline`." in scores.notes
    assert not any("without twins" in note for note in grids(results[1:])[0].notes)
