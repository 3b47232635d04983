import io
import logging
import sys

import pytest
from engine.fakes import TinyGan, run
from rich.console import Console

from resolute.core.errors import ConfigError
from resolute.engine.progress import LogProgress, RichProgress, Standing, make_progress


def terminal(width=160):
    return Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False)


def test_standing_words_terms_speed_and_time_left():
    standing = Standing(
        step=11,
        steps=20,
        steps_per_epoch=5,
        epochs=4,
        losses={"main/identity": 1.25, "main/triplet": 0.5},
        images_per_s=81.26,
        left_s=95,
    )
    assert str(standing) == (
        "epoch 3/4: identity 1.250, triplet 0.500; 81.3 images/s, 1 min 35 s left"
    )
    assert [
        Standing(step=s, steps=20, steps_per_epoch=5, epochs=4).epoch for s in (0, 1, 5, 6)
    ] == [
        1,
        1,
        1,
        2,
    ]


def test_terms_of_several_phases_keep_their_phase():
    standing = Standing(
        step=1, steps=2, steps_per_epoch=1, epochs=2, losses={"a/x": 1.0, "b/x": 2.0}
    )
    assert "a/x 1.000, b/x 2.000" in str(standing)


def test_log_has_a_line_per_epoch(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="resolute"):
        run(tmp_path)
    lines = [r.message for r in caplog.records]
    assert lines[0] == "training 4 epochs, 20 steps; 0 steps are done"
    assert [line.partition(":")[0] for line in lines[1:]] == [f"epoch {e}/4" for e in (1, 2, 3, 4)]
    assert "identity" in lines[1]
    assert lines[-1].endswith("0 s left")


def test_bar_on_a_terminal(tmp_path):
    console = terminal()
    run(tmp_path, method=TinyGan(), progress=make_progress(console), epochs=2)
    text = console.file.getvalue()
    assert "epoch 1/2: generator/adversarial" in text
    assert "images/s" in text
    assert "left" in text
    assert "\x1b[?25h" in text  # the cursor is back


def test_bar_lets_go_of_the_terminal_after_an_error(tmp_path):
    console = terminal()

    def fail():
        raise RuntimeError("from outside")

    with pytest.raises(RuntimeError, match="from outside"):
        run(tmp_path, progress=RichProgress(console), stop=fail)
    assert "\x1b[?25h" in console.file.getvalue()


def test_bar_is_for_terminals_alone():
    assert isinstance(make_progress(terminal()), RichProgress)
    assert isinstance(make_progress(Console(file=io.StringIO())), LogProgress)


def test_tensorboard_gets_every_term(tmp_path):
    run(tmp_path, tensorboard=True, epochs=1)
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"main/losses/identity", "main/losses/gap", "main/learning_rate"} <= set(
        events.Tags()["scalars"]
    )
    assert [e.step for e in events.Scalars("main/losses/gap")] == [1, 2, 3, 4, 5]


def test_missing_tensorboard_names_the_extra_and_leaves_the_folder_free(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(ConfigError, match=r'pip install "resolute-reid\[tensorboard\]"'):
        run(tmp_path, tensorboard=True)
    run(tmp_path, max_steps=1)
