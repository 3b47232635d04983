"""The quick start's run folders; that it trains and scores is `.ci/run`'s to see."""

from types import SimpleNamespace

import pytest

from resolute.tables import quickstart


@pytest.fixture
def made(monkeypatch):
    """What was asked for: (name of the run folder, epochs, how it resumed), in order."""
    found = []

    def train(config, run_dir, *, resume, progress):
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "model.safetensors").touch()
        found.append((run_dir.name, config.train.epochs, resume))

    monkeypatch.setattr(quickstart, "train", train)
    monkeypatch.setattr(quickstart, "evaluate", lambda run_dir: SimpleNamespace(of=run_dir.name))
    return found


def test_a_smoke_run_is_never_taken_for_the_quick_start(tmp_path, made):
    smoke = quickstart.run_quickstart(tmp_path, is_smoke=True)
    assert [result.of for result in smoke] == ["baseline-smoke", "ftwa-smoke"]
    whole = quickstart.run_quickstart(tmp_path)
    assert [result.of for result in whole] == ["baseline", "ftwa"]
    assert [epochs for _, epochs, _ in made] == [2, 2, 40, 40]
    quickstart.run_quickstart(tmp_path)
    assert len(made) == 4  # finished runs are not trained again


def test_an_interrupted_quick_start_goes_on(tmp_path, made):
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline" / "checkpoint.safetensors").touch()
    quickstart.run_quickstart(tmp_path)
    assert made == [("baseline", 40, "exact"), ("ftwa", 40, "no")]
