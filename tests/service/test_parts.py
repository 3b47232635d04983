"""Audit chain, queue, rate, token, settings and server, each by itself."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from inference.small import noise, person, save_small
from service.serving import drawn, fill, images
from waiting import wait_until

from resolute.core.errors import ConfigError, DatasetError, GalleryError
from resolute.retrieval.types import VectorSpace
from resolute.service import audit
from resolute.service.audit import AuditLog, verify
from resolute.service.config import ServeConfig, check_access
from resolute.service.embedder import Embedder
from resolute.service.problem import Problem, problem_of
from resolute.service.rate import Buckets
from resolute.service.token import find_token

DAY = 86_400.0
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def write_days(folder, *, days=4, each=3):
    log = AuditLog(folder)
    for day in range(days):
        for i in range(each):
            log.write("search", who="desk", now=NOON + day * DAY, k=i, found=[i])
    return log


def test_audit_goes_on_where_it_stopped(tmp_path):
    write_days(tmp_path, days=1).close()
    log = AuditLog(tmp_path)
    head = log.write("search", who="desk", now=NOON + DAY)
    assert head.num == 4
    assert log.verify() == head == log.head
    assert [event["num"] for event in log.page(start=1, limit=2)] == [1, 2]
    assert [event["num"] for event in log.page(limit=2)] == [2, 3]
    with pytest.raises(GalleryError, match="in use by another server"):
        AuditLog(tmp_path)
    log.close()
    assert verify(tmp_path) == head


def test_audit_shows_every_change(tmp_path):
    write_days(tmp_path).close()
    files = sorted(tmp_path.glob("*.jsonl"))
    lines = [line for path in files for line in path.read_bytes().splitlines(keepends=True)]
    for at, line in enumerate(lines):
        for changed in (
            line.replace(b'"k": ', b'"k": 1'),  # another value
            line.replace(b"desk", b"dusk"),
            b"",  # left out
            line + line,  # twice
        ):
            others = b"".join([*lines[:at], changed, *lines[at + 1 :]])
            for path in files:
                path.write_bytes(b"")
            files[0].write_bytes(others)
            if at == len(lines) - 1 and not changed:
                continue  # cut off at the end: the files alone cannot know
            with pytest.raises(GalleryError, match="audit log"):
                verify(tmp_path)
    files[0].write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    with pytest.raises(GalleryError, match="left out, moved or changed"):
        verify(tmp_path)


def test_audit_retention_erases_days_and_says_so(tmp_path):
    log = write_days(tmp_path)
    assert log.expire(10, now=NOON + 3 * DAY) == 0
    assert log.expire(2, now=NOON + 3 * DAY) == 3  # 1 March; half of 2 March is younger
    assert log.verify().num == 13
    assert [event["num"] for event in log.page(start=0, limit=99)] == list(range(3, 13))
    assert log.page()[-1]["action"] == "erase-audit"
    log.close()
    first = min(tmp_path.glob("*.jsonl"))
    first.unlink()  # a day gone that nobody said was erased
    with pytest.raises(GalleryError, match="no event says that earlier ones were erased"):
        verify(tmp_path)


def test_audit_drops_half_a_line_that_a_kill_left(tmp_path):
    log = write_days(tmp_path, days=1)
    head = log.head
    log.close()
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"num": 3, "half')
    log = AuditLog(tmp_path)
    assert log.head == head
    log.write("search", who="desk", now=NOON)
    log.verify()
    log.close()
    path.write_bytes(b"no json\n")
    with pytest.raises(GalleryError, match="damaged at byte 0"):
        AuditLog(tmp_path)


def test_a_day_is_erased_by_an_event_of_its_own(tmp_path, monkeypatch):
    log = write_days(tmp_path)

    unlink = Path.unlink

    def refuse(path, **more):
        if path.stem == "2026-03-02":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", refuse)
        with pytest.raises(GalleryError, match=r"03-02.jsonl: cannot be erased: Operation not"):
            log.expire(1, now=NOON + 3 * DAY)
    log.verify()  # the first day is gone, and an event says so
    assert log.expire(1, now=NOON + 3 * DAY) == 3
    log.verify()
    log.close()


def test_an_idle_log_is_erased_too(tmp_path):
    log = AuditLog(tmp_path)
    log.write("search", who="desk", now=NOON)
    assert log.expire(90, now=NOON + 200 * DAY) == 1
    assert [event["action"] for event in log.page()] == ["erase-audit"]
    assert log.write("search", who="desk", now=NOON + 200 * DAY) == log.verify()
    log.close()


def test_an_event_that_failed_leaves_no_line(tmp_path, monkeypatch):
    log = write_days(tmp_path, days=1)
    head = log.head

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("resolute.service.audit.os.fsync", full)
        with pytest.raises(GalleryError, match="cannot be written: No space left"):
            log.write("search", who="desk", now=NOON)
    assert log.verify() == log.head == head
    assert log.write("search", who="desk", now=NOON) == log.verify()
    log.close()


def test_an_event_that_cannot_be_taken_back_is_the_last(tmp_path, monkeypatch):
    log = write_days(tmp_path, days=1)
    head = log.head

    def dead(*args):
        raise OSError(errno.EIO, "Input/output error")

    class Dead(io.FileIO):
        truncate = dead

    with monkeypatch.context() as patch:
        patch.setattr("resolute.service.audit.os.fsync", dead)
        log._file.close()
        log._file = Dead(log._file.name, "ab")
        with pytest.raises(GalleryError, match="cannot be written: Input/output error"):
            log.write("search", who="desk", now=NOON)
    with pytest.raises(GalleryError, match="start the server again"):
        log.write("search", who="desk", now=NOON)
    assert log.head == head
    log.close()
    again = AuditLog(tmp_path)  # the line is whole: it counts from here on
    assert again.write("search", who="desk", now=NOON).num == head.num + 2
    again.verify()
    again.close()


def test_every_page_of_the_audit_is_found(tmp_path):
    log = write_days(tmp_path, days=3, each=5)
    log.write("search", who="a name of three bytes: 語", now=NOON + 3 * DAY)
    (tmp_path / "2026-03-01-b.jsonl").touch()  # a day whose only event failed
    for start in range(18):
        for limit in (1, 4, 99):
            nums = [event["num"] for event in log.page(start=start, limit=limit)]
            assert nums == list(range(16))[start : start + limit]
    assert [event["num"] for event in log.page(limit=7)] == list(range(9, 16))
    log.close()


def test_a_page_of_the_audit_keeps_no_event_waiting(tmp_path, monkeypatch):
    log = write_days(tmp_path, days=2, each=500)
    live, most, read = [], [], audit._event

    def reading(file):
        # Between two lines of the page: an event comes, and a day goes.
        if not most:
            writing = threading.Thread(target=lambda: log.write("search", who="x", now=NOON + DAY))
            writing.start()
            writing.join(10)
            assert not writing.is_alive()
            min(tmp_path.glob("*.jsonl")).unlink()
        event = _Event(read(file))
        live.append(weakref.ref(event))
        most.append(sum(ref() is not None for ref in live))
        return event

    monkeypatch.setattr(audit, "_event", reading)
    page = log.page(limit=3)
    assert [event["num"] for event in page] == [997, 998, 999]
    del page
    assert len(most) < 100  # of a thousand lines
    assert max(most) <= 4
    log.close()


class _Event(dict):
    """An event that can be counted while it lives."""


class _Gate:
    """A model whose passes wait until the test lets them go."""

    def __init__(self, model):
        self._model, self.go, self.sizes = model, threading.Event(), []

    def embed_pixels(self, pictures, *, batch_size):
        self.go.wait(10)
        pictures = list(pictures)
        self.sizes.append(len(pictures))
        if any(pixels.shape[0] == 13 for pixels, _ in pictures):
            raise DatasetError("an unlucky image")
        return self._model.embed_pixels(pictures, batch_size=batch_size)


@pytest.fixture
def gate(model):
    space = VectorSpace.of(model.embed(person(1)))
    gate = _Gate(model)
    gate.embedder = Embedder(gate, space=space, max_waiting=6)
    yield gate
    gate.go.set()
    gate.embedder.close()


def test_waiting_requests_share_a_pass_and_get_their_own(gate, model):
    first = gate.embedder.submit([(person(1), 2)])
    wait_until(lambda: not gate.embedder.num_waiting)
    others = [gate.embedder.submit([(person(i), 2), (person(i, 1), 2)]) for i in (2, 3, 4)]
    assert gate.embedder.num_waiting == 6
    with pytest.raises(Problem, match="6 images wait") as refused:
        gate.embedder.submit([(person(5), 2)])
    assert refused.value.status == 503
    gate.go.set()
    assert len(first.result(10)) == 1
    for i, future in zip((2, 3, 4), others, strict=True):
        expected = model.embed([person(i), person(i, 1)])
        assert abs(future.result(10).vectors - expected.vectors).max() < 1e-5
    assert gate.sizes == [1, 6]


def test_one_requests_error_is_not_anothers(gate):
    first = gate.embedder.submit([(person(1), 2)])
    wait_until(lambda: not gate.embedder.num_waiting)
    good = gate.embedder.submit([(person(2), 2)])
    bad = gate.embedder.submit([(noise(13, 8), 2)])
    gone = gate.embedder.submit([(person(3), 2)])
    assert gone.cancel()
    gate.go.set()
    assert len(first.result(10)) == len(good.result(10)) == 1
    with pytest.raises(DatasetError, match="unlucky"):
        bad.result(10)


def test_a_bucket_fills_with_time():
    now = [0.0]
    buckets = Buckets(60, clock=lambda: now[0])
    assert [buckets.take("a", 1) for _ in range(60)] == [0.0] * 60
    assert buckets.take("a", 1) == pytest.approx(1.0)
    assert buckets.take("b", 1) == 0  # another client
    now[0] += 0.5
    assert buckets.take("a", 1) == pytest.approx(0.5)
    now[0] += 0.5
    assert buckets.take("a", 1) == 0
    now[0] += 10_000
    assert [bool(buckets.take("a", 1)) for _ in range(61)].count(True) == 1  # a minute's at most
    unlimited = Buckets(0)
    assert not any(unlimited.take("a", 1) for _ in range(1000))


def test_tokens_come_from_files_and_the_environment(tmp_path, caplog):
    file = tmp_path / "token"
    file.write_text("desk:0123456789abcdef\n")
    file.chmod(0o600)
    token = find_token(file, {"RESOLUTE_TOKEN": "another-secret-0123"})
    assert token.name == "desk"
    assert token.accepts("Bearer 0123456789abcdef")
    assert not token.accepts("Bearer another-secret-0123")
    assert "0123456789abcdef" not in repr(token)
    assert not caplog.records
    file.chmod(0o644)
    find_token(file, {})
    assert "other users" in caplog.text
    assert find_token(None, {"RESOLUTE_TOKEN": "another-secret-0123"}).name == "token"
    assert find_token(None, {}) is None
    for bad in ("short", "0123456789 abcdef", "a b:0123456789abcdef", "", "0123456789abcdeé"):
        file.write_text(bad)
        with pytest.raises(ConfigError, match="at least 16 characters"):
            find_token(file, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        find_token(tmp_path / "none", {})


def test_nobody_else_gets_in_without_a_token():
    check_access(ServeConfig(), has_token=False)
    check_access(ServeConfig(host="0.0.0.0"), has_token=True)
    for config in (ServeConfig(host="0.0.0.0"), ServeConfig(host="::"), ServeConfig(host="")):
        with pytest.raises(ConfigError, match="without a token"):
            check_access(config, has_token=False)
    for config in (ServeConfig(behind_proxy=True), ServeConfig(allowed_hosts=("reid.example",))):
        with pytest.raises(ConfigError, match="behind a proxy"):
            check_access(config, has_token=False)


@pytest.mark.parametrize(
    "bad",
    [{"port": -1}, {"rate": -1}, {"max_upload_mb": 0}, {"audit_days": float("nan")},
     {"max_images": 0}],
)  # fmt: skip
def test_settings_are_checked(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ServeConfig(**bad)


def test_errors_name_no_folder():
    problem = problem_of(GalleryError("/srv/inner/gallery/manifest.json: damaged, key 'a/b.png'"))
    assert problem.message == "manifest.json: damaged, key 'a/b.png'"
    assert problem_of(DatasetError("x")).status == 422


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_the_command_serves_and_stops_cleanly(tmp_path, model, number):
    folder = fill(tmp_path / "gallery", model)
    run = tmp_path / "run"
    save_small(run)
    log = tmp_path / "log"  # not a pipe, whose reading may wait for ever
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "resolute", "serve", str(folder), "--model", str(run),
             "--port", "0", "--device", "cpu"],
            stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        (url,) = wait_until(lambda: re.findall(r'"url": "([^"]+)"', log.read_text()), seconds=60)
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            assert client.post("/v1/search", files=images(drawn(1))).status_code == 200
            assert client.get("/v1/thumbnail?key=jane-doe").status_code == 404
            process.send_signal(number)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    told = log.read_text()
    assert "jane" not in told
    assert "?" not in told
    events = [json.loads(line)["event"] for line in told.splitlines()]
    assert events.count("request") == 2
    assert events[-1] == "stopped"
    verify(tmp_path / "gallery.audit")


def test_the_command_refuses_in_one_line(tmp_path, model):
    folder = fill(tmp_path / "gallery", model)
    words = [sys.executable, "-m", "resolute", "serve", str(folder), "--model", "x"]
    done = subprocess.run([*words, "--host", "0.0.0.0"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "without a token" in done.stderr
