"""One process per cell, and no lock outlives its holder."""

import os
import signal
import subprocess
import sys

from resolute.engine.lock import held, holder, is_held

HOLD = """
import sys, time
from pathlib import Path
from resolute.engine.lock import held
with held(Path(sys.argv[1])) as other:
    print(other, flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_holds_it(tmp_path):
    path = tmp_path / "a" / "cell.lock"
    with held(path) as other:
        assert other is None
        assert is_held(path)
        with held(path) as second:
            assert second == os.getpid()
        assert holder(path) == os.getpid()
    assert not path.exists()
    assert not is_held(path)
    with held(path) as again:
        assert again is None


def test_a_killed_holder_is_no_holder(tmp_path):
    path = tmp_path / "cell.lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"None\n"
    with held(path) as found:
        assert found == other.pid
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert path.exists()
    assert not is_held(path)
    with held(path) as found:
        assert found is None
