import threading
import time

import numpy as np
import pytest
from waiting import wait_until

from resolute.core.errors import DatasetError
from resolute.inference.ahead import decode_ahead


def task(number, pause=0.0, size=1000):
    def decode():
        time.sleep(pause)
        return np.full(size, number % 256, dtype=np.uint8)

    return decode


def test_results_come_in_order_whatever_finishes_first():
    tasks = [task(i, pause=0.01 if i % 3 == 0 else 0) for i in range(30)]
    assert [int(r[0]) for r in decode_ahead(tasks, threads=4)] == list(range(30))
    assert list(decode_ahead([])) == []


def test_memory_is_bounded():
    begun = []

    def count(number):
        def decode():
            begun.append(number)
            return np.zeros(100, dtype=np.uint8)

        return decode

    results = decode_ahead((count(i) for i in range(1000)), threads=2, waiting_bytes=500)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 1 + 5 + 2
    results.close()
    assert len(begun) < 20


def test_calls_are_taken_in_the_thread_that_takes_the_results():
    takers, makers = set(), set()

    def calls():
        for number in range(50):
            takers.add(threading.current_thread())
            yield (
                lambda number=number: (
                    makers.add(threading.current_thread()) or task(number, pause=0.001)()
                )
            )

    assert [int(r[0]) for r in decode_ahead(calls())] == list(range(50))
    assert takers == {threading.current_thread()}
    assert makers.isdisjoint(takers)


@pytest.mark.parametrize(("held", "most"), [(0, 1024), (100, 5), (600, 1)])
def test_no_more_calls_are_taken_than_may_be_held(held, most):
    count, free = 0, threading.Event()

    def wait():
        assert free.wait(30)
        return np.zeros(100, dtype=np.uint8)

    def calls():
        nonlocal count
        for count in range(1, 5000):
            if count == most:
                free.set()
            yield wait

    results = decode_ahead(calls(), waiting_bytes=500, size=lambda task: held)
    ahead = [count - number for number, _ in zip(range(100), results, strict=False)]
    results.close()
    assert max(ahead) == ahead[0] == most


def test_errors_are_results_and_bugs_are_raised():
    def broken():
        raise DatasetError("no image")

    def bug():
        raise ZeroDivisionError

    results = list(decode_ahead([task(1), broken, task(2)]))
    assert isinstance(results[1], DatasetError)
    assert int(results[2][0]) == 2
    with pytest.raises(ZeroDivisionError):
        list(decode_ahead([task(1), bug, *(task(i, size=10) for i in range(50))], waiting_bytes=20))

    def failing():
        yield task(1)
        raise ValueError("bad list")

    with pytest.raises(ValueError, match="bad list"):
        list(decode_ahead(failing()))


def test_no_thread_is_left_behind():
    before = threading.active_count()
    for _ in decode_ahead([task(i) for i in range(10)]):
        break
    list(decode_ahead([task(i) for i in range(10)]))
    wait_until(lambda: threading.active_count() <= before)  # they end by themselves
