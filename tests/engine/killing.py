"""Start training in a process of its own and end it at a chosen step.

``Trainer(command, run_dir)`` works with any command that writes ``scalars.jsonl`` to a run folder.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FAKES = Path(__file__).with_name("fakes.py")


def tiny(run_dir, *words):
    """The command that trains the tiny method."""
    return [sys.executable, str(FAKES), str(run_dir), *words]


class Trainer:
    """A training process."""

    def __init__(self, command, run_dir, **environment):
        self.run_dir = Path(run_dir)
        path = os.pathsep.join([str(FAKES.parents[1]), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_step(self, step, timeout_s=60):
        """Return when the scalars show the step; they are written as they come."""
        end = time.monotonic() + timeout_s
        while self.steps() < step:
            if self.process.poll() is not None:
                raise RuntimeError(f"ended before step {step}: {self.finish()}")
            if time.monotonic() > end:
                self.process.kill()
                raise RuntimeError(f"no step {step} within {timeout_s} s: {self.finish()}")
            time.sleep(0.002)
        return self

    def steps(self):
        try:
            return (self.run_dir / "scalars.jsonl").read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def send(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self

    def finish(self, timeout_s=60):
        """Return exit code and what it printed."""
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        finally:
            self.process.kill()
        return self.process.returncode, out + err
