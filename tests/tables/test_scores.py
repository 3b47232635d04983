"""The table of scores: what a method costs, what it says of itself, what its paper prints."""

import re
from dataclasses import replace

from resolute.cli.grids import fitted
from resolute.core.config import to_mapping
from resolute.data.benchmark import benchmark_names
from resolute.engine.result import Result
from resolute.methods.variants import TABLE1, VARIANTS
from resolute.recipes.catalogue import find_recipe
from resolute.tables.gains import CONTROLS
from resolute.tables.layout import Grid, markdown
from resolute.tables.published import BENCHMARKS, PUBLISHED, published
from resolute.tables.results import results_page
from resolute.tables.rows import rows_of
from resolute.tables.sections import grids

# FTWA's table 1 as it is printed: Rank-1 and Rank-5 on MLR-CUHK03, CAVIAR, MLR-VIPeR, MLR-Market.
TABLE_1 = """
sing       67.7 90.7 33.5 72.7 33.5 57.0 74.4 87.8
csr-gan    71.3 92.1 34.7 72.5 37.2 62.3 76.4 88.5
rife-ffsr  73.3 92.6 36.4 72.0 41.6 64.9 66.9 84.7
rain       78.9 97.3 42.0 77.3 42.5 68.3 - -
cad-net    82.1 97.4 42.8 76.2 43.1 68.2 83.7 92.7
ftwa       83.2 97.8 43.3 77.1 43.2 68.5 84.4 93.7
"""


def cell(anchor, method, *, data="mlr-viper", trial=0, **changes):
    config = to_mapping(find_recipe(method, data))
    config["data"]["trial"] = trial
    training = {"steps": 1, "duration_s": 90.0, **changes.pop("training", {})}
    return replace(anchor, method=method, config=config, training=training, measures={}, **changes)


def columns(grid, *heads):
    places = [grid.head.index(head) for head in heads]
    return {row[0]: tuple(row[place] for place in places) for row in grid.rows}


def test_a_written_set_is_compared_with_the_recipe_of_what_it_was_made_of(anchor):
    usual = cell(anchor, "ftwa")
    config = {**usual.config, "data": {**usual.config["data"], "name": "mlr-written"}}
    rows, notes = rows_of([replace(usual, config=config)])
    assert [row.label for row in rows] == ["`ftwa`"]
    assert notes == ()


# ---------------------------------------------------------------------- what papers print


def test_published_figures_are_those_of_the_papers_table():
    benchmarks = ("MLR-CUHK03", "CAVIAR", "MLR-VIPeR", "MLR-Market-1501")
    for line in TABLE_1.split("\n")[1:-1]:
        row, *numbers = line.split()
        for i, benchmark in enumerate(benchmarks):
            found = PUBLISHED[benchmark].get(row)
            printed = numbers[2 * i : 2 * i + 2]
            if printed == ["-", "-"]:
                assert found is None
            else:
                assert found.scores[:2] == tuple(map(float, printed)), (row, benchmark)


def test_rank10_and_parts_are_those_of_their_own_tables():
    assert published("sing", "caviar").scores == (33.5, 72.7, 89.0)
    assert published("csr-gan", "mlr-market1501").scores == (76.4, 88.5, 91.9)
    assert published("rain", "mlr-viper").scores == (42.5, 68.3, 79.6)
    assert published("cad-net-g", "caviar").scores == (38.9, 73.1, 90.6)
    assert published("rife", "mlr-cuhk03-classic-labeled").scores == (69.7, 91.5, None)
    assert published("ftwa_r", "mlr-cuhk03-classic-detected").scores == (82.3, 97.4, None)
    assert "another protocol" in published("rife-ffsr", "mlr-market1501").remark


def test_every_published_figure_is_of_a_row_and_in_order():
    assert set(BENCHMARKS.values()) == set(PUBLISHED)
    assert set(BENCHMARKS) <= set(benchmark_names())
    for rows in PUBLISHED.values():
        assert set(rows) <= set(VARIANTS)
        for found in rows.values():
            given = [score for score in found.scores if score is not None]
            assert given == sorted(given)
            assert all(0 < score <= 100 for score in given)
            assert found.source
    assert published("ftwa", "mlr-synthetic") is None
    assert published("baseline-twins", "mlr-viper") is None


def test_theirs_stand_beside_ours_and_are_marked(anchor):
    results = [cell(anchor, row) for row in ("baseline-twins", "csr-gan", "ftwa")]
    scores = grids([anchor, *results])[0]
    theirs = columns(scores, "paper's Rank-1", "paper's Rank-5", "paper's Rank-10")
    assert theirs == {
        "embedding as it is, untrained": ("–", "–", "–"),
        "`baseline-twins`": ("–", "–", "–"),
        "`csr-gan`": ("37.2", "62.3", "71.6"),
        "`ftwa`": ("43.2", "68.5", "–"),
    }
    note = scores.notes[-1]
    assert "not ours: they are printed for MLR-VIPeR" in note
    assert "`csr-gan`: CAD-Net, table 1" in note
    assert "`csr-gan`: not in its own paper" in note
    page = results_page(results)
    assert "paper's Rank-1" in page
    assert note in page


def test_a_written_set_beside_its_origin_keeps_the_papers_columns(anchor):
    written = cell(anchor, "baseline")
    data = {**written.config["data"], "name": "mlr-written"}
    written = replace(written, config={**written.config, "data": data})
    for results in ([written, cell(anchor, "ftwa")], [cell(anchor, "ftwa"), written]):
        scores = grids(results)[0]
        assert columns(scores, "paper's Rank-1")["`ftwa`"] == ("43.2",)
        assert "printed for MLR-VIPeR" in scores.notes[-1]


def test_an_untrained_network_is_not_the_papers_baseline(anchor):
    data = "mlr-cuhk03-classic-labeled"
    trained = cell(anchor, "baseline", data=data)
    untrained = replace(anchor, config=trained.config)
    assert untrained.method == "baseline"
    theirs = columns(grids([untrained, trained])[0], "paper's Rank-1", "paper's Rank-5")
    assert theirs == {
        "embedding as it is, untrained": ("–", "–"),
        "`baseline`": ("46.3", "77.2"),
    }


def test_no_published_figures_no_columns(anchor):
    for results in ([cell(anchor, "baseline-twins")], [cell(anchor, "ftwa", data="mlr-cuhk01")]):
        scores = grids(results)[0]
        assert not any("paper" in head for head in scores.head)
        assert not any("paper" in note for note in scores.notes)


# ---------------------------------------------------------------------- what methods cost and say


def test_parameters_and_minutes_stand_beside_the_scores(anchor):
    plain = cell(anchor, "ftwa", num_parameters=1000)
    scores = grids([plain])[0]
    assert columns(scores, "parameters", "minutes") == {"`ftwa`": ("1,000", "2")}
    assert "parameters in training" not in scores.head
    gan = cell(anchor, "csr-gan", num_parameters=1000, training={"parameters": 2500})
    scores = grids([plain, gan])[0]
    assert columns(scores, "parameters", "parameters in training") == {
        "`csr-gan`": ("1,000", "2,500"),
        "`ftwa`": ("1,000", "1,000"),
    }


def test_minutes_of_a_run_that_went_on_are_those_of_all_its_steps(anchor):
    last_part = {"steps": 150, "duration_s": 60.0, "images_per_s": 8.0, "resumed": True}
    went_on = cell(anchor, "ftwa", training=last_part)
    assert columns(grids([went_on])[0], "minutes") == {"`ftwa`": ("20",)}  # 150 x 64 / 8 s
    nothing_left = cell(anchor, "baseline", training=last_part | {"images_per_s": 0.0})
    assert columns(grids([nothing_left])[0], "minutes") == {"`baseline`": ("–",)}
    derived = cell(anchor, "ftwa-const", training={"from": "ftwa"})
    both = columns(grids([went_on, derived])[0], "minutes")
    assert both == {"`ftwa`": ("20",), "`ftwa-const`": ("–",)}
    told = "compare scores, not minutes"
    assert any(told in note for note in grids([went_on])[0].notes)
    assert not any(told in note for note in grids([anchor])[0].notes)


def test_the_numbers_it_was_trained_in_stand_beside_the_minutes(anchor):
    old = cell(anchor, "baseline")  # kept before results told
    new = [
        cell(anchor, "ftwa", trial=t, training={"precision": p})
        for t, p in enumerate(("bf16", "float32"))
    ]
    scores = grids([anchor, old])[0]
    assert columns(scores, "trained in") == {
        "embedding as it is, untrained": ("–",),
        "`baseline`": ("bf16",),
    }
    new.append(cell(anchor, "sing", training={"precision": "bf16", "device": "NVIDIA H200"}))
    scores = grids([old, *new])[0]
    assert columns(scores, "trained in")["`sing`"] == ("bf16, NVIDIA H200",)
    assert columns(scores, "trained in")["`ftwa`"] == ("bf16; float32",)


def test_minutes_of_other_threads_are_told(anchor):
    def on(row, threads):
        found = cell(anchor, row, training={"duration_s": 60.0})
        train = {**found.config["train"], "threads": threads}
        return replace(found, config={**found.config, "train": train})

    usual = [on("baseline", 1), on("ftwa", 1)]
    assert not any("threads" in note for note in grids(usual)[0].notes)
    notes = grids([*usual, on("sing", 2)])[0].notes
    assert "Minutes are not all of one number of threads: `sing` on 2 threads." in notes


def test_notes_of_a_method_are_footnotes(anchor):
    first, second = "perceptual terms off: no VGG-19 weights given", "a share of 20 % has labels"
    results = [
        cell(anchor, "csr-gan", notes=(first,)),
        cell(anchor, "csr-gan", trial=1, notes=(first,)),
        cell(anchor, "rain", notes=(second, first)),
        cell(anchor, "ftwa"),
    ]
    scores = grids(results)[0]
    assert [row[0] for row in scores.rows] == ["`csr-gan` [1]", "`rain` [2] [1]", "`ftwa`"]
    assert {f"[1] {first}.", f"[2] {second}."} <= set(scores.notes)
    assert f"[1] {first}." in markdown(scores, level=2)
    assert not any(
        "[1]" in cell for grid in grids(results)[1:] for row in grid.rows for cell in row
    )


def test_notes_survive_the_file_and_older_files_have_none(anchor, tmp_path):
    noted = replace(anchor, notes=("a", "b"))
    noted.write(tmp_path / "new.json")
    assert Result.read(tmp_path / "new.json") == noted
    text = (tmp_path / "new.json").read_text()
    old = re.sub(r',\n "notes": \[.*?\]', "", text, flags=re.DOTALL)
    assert old != text
    (tmp_path / "old.json").write_text(old)
    assert Result.read(tmp_path / "old.json") == replace(anchor, notes=())


def test_every_method_of_table_1_has_a_control():
    controlled = {row for row, control, _ in CONTROLS if control == "baseline-twins"}
    assert set(TABLE1) - {"baseline", "baseline-twins"} <= controlled
    assert len(set(CONTROLS)) == len(CONTROLS)


# ---------------------------------------------------------------------- on the terminal


def test_a_wide_table_is_printed_in_parts_with_the_names_of_its_rows():
    head = ("method", *(f"column {i}" for i in range(9)), "the last")
    grid = Grid(title="t", head=head, rows=(("`ftwa`", *["67.7 ± 1.1"] * 9, "two words"),))
    assert fitted(grid, 200) == [grid]
    parts = fitted(grid, 60)
    assert [part.title for part in parts[:2]] == ["t", "t, further columns"]
    assert all(part.head[0] == "method" and part.rows[0][0] == "`ftwa`" for part in parts)
    assert [name for part in parts for name in part.head[1:]] == list(head[1:])
    assert [len(part.head) for part in parts] == [4, 4, 5]
    narrow = fitted(grid, 5)  # nothing fits: one column at a time all the same
    assert [len(part.head) for part in narrow] == [2] * 10
