import os
import signal
import threading

import pytest
from engine.fakes import STEPS_PER_EPOCH, TinyLoader, bits, run, stop_after
from engine.killing import Trainer, tiny

from resolute.core import tensorfile
from resolute.engine.checkpoint import load_checkpoint
from resolute.engine.process import interruption
from resolute.inference.model_file import load_model


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_lets_the_step_end_and_leaves_a_checkpoint(number, tmp_path):
    whole, _ = run(tmp_path / "whole")
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def interrupt(epoch, step):
        if (epoch, step) == (1, 2):
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", loader=TinyLoader(hook=interrupt))
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert load_checkpoint(tmp_path / "part/checkpoint.safetensors").state.step == 8
    rest, _ = run(tmp_path / "part", resume="exact")
    assert bits(rest) == bits(whole)


def test_second_signal_does_not_wait(tmp_path):
    def interrupt(epoch, step):
        if (epoch, step) == (1, 2):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loader=TinyLoader(hook=interrupt))
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").state.step == STEPS_PER_EPOCH
    run(tmp_path, resume="exact")


def test_other_threads_train_without_handlers(tmp_path):
    found = []

    def work():
        with interruption() as is_interrupted:
            found.append((is_interrupted(), signal.getsignal(signal.SIGINT)))
        found.append(run(tmp_path, max_steps=1)[1].steps)

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, handler), 1]


def test_kill_minus_nine_anywhere_and_resume_gives_the_same_bits(tmp_path):
    # A fresh random step each time: whatever it is, the bits are the same.
    step = 1 + int.from_bytes(os.urandom(2), "little") % (4 * STEPS_PER_EPOCH - 2)
    whole, _ = run(tmp_path / "whole", checkpoint_every=2)
    folder = tmp_path / "part"
    words = ("epochs=4", "threads=1")
    code, text = (
        Trainer(tiny(folder, *words, "pause=0.02"), folder).wait_for_step(step).send().finish()
    )
    assert code == -signal.SIGKILL, (step, text)
    code, text = Trainer(tiny(folder, *words, "resume=exact"), folder).finish()
    assert code == 0, (step, text)
    weights, _ = load_model(folder / "rank0.safetensors")
    assert {n: t.numpy().tobytes() for n, t in weights.items()} == bits(whole), step


@pytest.mark.parametrize("instant", ["before the file is on the disk", "after the rename"])
def test_killed_while_a_checkpoint_is_written(instant, tmp_path, monkeypatch):
    whole, _ = run(tmp_path / "whole")
    folder = tmp_path / "part"
    run(folder, stop=stop_after(3))
    number = 0 if instant.startswith("before") else 1
    monkeypatch.setattr(tensorfile.os, "fsync", _dying(os.fsync, after=1 + number))  # 1: scalars
    with pytest.raises(_Killed):
        run(folder, resume="exact")
    monkeypatch.undo()
    assert load_checkpoint(folder / "checkpoint.safetensors").state.step == (3, 5)[number]
    rest, _ = run(folder, resume="exact")
    assert bits(rest) == bits(whole)


class _Killed(BaseException):
    """As a kill: nothing that catches errors catches it."""


def _dying(call, *, after):
    left = [after]

    def die(*arguments):
        if left[0] == 0:
            raise _Killed
        left[0] -= 1
        return call(*arguments)

    return die
