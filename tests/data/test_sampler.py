import math
import pickle
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from data.sources import record
from hypothesis import given, settings
from hypothesis import strategies as st

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Resolution
from resolute.data.sampler import PairSampler, RunningOrder, num_steps


def made_of(*identities):
    """Records of identities given as (HR cameras, LR cameras), one camera per image."""
    records = []
    for pid, (hr, lr) in enumerate(identities):
        records += [record(pid, c, n, resolution=Resolution.HR) for n, c in enumerate(hr)]
        records += [record(pid, c, 50 + n, resolution=Resolution.LR) for n, c in enumerate(lr)]
    return records


def sampler_of(records, p, k, seed=0):
    return PairSampler(records, num_identities=p, num_instances=k, streams=Streams(seed))


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("hr", "lr", "borrowed", "labels")
    )


# The order that runs on


@given(count=st.integers(1, 12), take=st.integers(1, 9), seed=st.integers(0, 50))
@settings(max_examples=120, deadline=None)
def test_items_are_used_up_before_one_repeats_and_never_twice_in_a_chunk(count, take, seed):
    draw = partial(Streams(seed).numpy, Stream.SAMPLER, "x")
    items = [100 + i for i in range(count)]
    order = RunningOrder(items, take, draw)
    num_chunks = 3 * count
    chunks = [order.chunk(i).tolist() for i in range(num_chunks)]
    run = [item for chunk in chunks for item in chunk]
    for start in range(0, len(run) - count + 1, count):
        assert sorted(run[start : start + count]) == items
    if count >= take:
        assert all(len(set(chunk)) == take for chunk in chunks)
    else:
        for chunk in chunks:
            uses = Counter(chunk)
            assert max(uses.values()) <= math.ceil(take / count) + 1
    late = RunningOrder(items, take, draw)
    for i in reversed(range(num_chunks)):
        assert late.chunk(i).tolist() == chunks[i]


def test_each_permutation_is_another():
    order = RunningOrder(range(20), 5, partial(Streams(0).numpy, Stream.SAMPLER, "x"))
    cycles = [np.concatenate([order.chunk(4 * c + i) for i in range(4)]) for c in range(5)]
    assert len({tuple(c.tolist()) for c in cycles}) == 5
    first = Counter(
        int(RunningOrder(range(5), 1, partial(Streams(s).numpy, Stream.SAMPLER, "x")).chunk(0)[0])
        for s in range(500)
    )
    assert min(first.values()) > 60  # 100 expected, deviation 9


# Batches


def test_a_batch_is_p_identities_with_k_hr_and_k_lr_images():
    records = made_of(*[([0] * 3, [1] * 4)] * 10)
    sampler = sampler_of(records, 4, 2)
    for number in range(40):
        batch = sampler.batch(number)
        assert len(batch.hr) == len(batch.lr) == len(batch.labels) == 8
        for i in range(8):
            hr, lr = records[batch.hr[i]], records[batch.lr[i]]
            assert hr.resolution is Resolution.HR
            assert lr.resolution is Resolution.LR
            assert sampler.labels[hr.pid] == sampler.labels[lr.pid] == batch.labels[i]
        assert batch.labels.tolist() == np.repeat(batch.labels[::2], 2).tolist()
        assert len(set(batch.labels.tolist())) == 4
        assert len(set(batch.hr.tolist())) == len(set(batch.lr.tolist())) == 8
        assert not batch.borrowed.any()


def test_identities_and_images_are_used_up_before_one_repeats():
    records = made_of(*[([0] * 4, [1] * 6)] * 7)
    sampler = sampler_of(records, 3, 2)
    batches = [sampler.batch(i) for i in range(7 * 12)]
    visits = np.concatenate([b.labels[::2] for b in batches])
    for start in range(0, len(visits), 7):
        assert sorted(visits[start : start + 7]) == list(range(7))
    for label in range(7):
        for half, count in (("hr", 4), ("lr", 6)):
            run = [i for b in batches for i in getattr(b, half)[b.labels == label].tolist()]
            for start in range(0, len(run) - count + 1, count):
                assert len(set(run[start : start + count])) == count


def test_hr_and_lr_are_paired_afresh():
    records = made_of(*[([0] * 3, [1] * 3)] * 4)
    sampler = sampler_of(records, 4, 1)
    pairs = {
        (h, low)
        for n in range(60)
        for b in [sampler.batch(n)]
        for h, low in zip(b.hr, b.lr, strict=True)
    }
    assert len(pairs) == 4 * 9


def test_one_picture_per_view_is_always_the_pair():
    records = made_of(*[([0], [1])] * 6)
    sampler = sampler_of(records, 3, 1)
    assert sampler.counts.num_images == 12
    for number in range(8):
        batch = sampler.batch(number)
        assert [records[i].pid for i in batch.hr] == [records[i].pid for i in batch.lr]


def test_a_batch_needs_no_history():
    records = made_of(*[([0] * 5, [1] * 3)] * 7, *[([0, 1, 2], [])] * 4)
    ahead = sampler_of(records, 4, 2)
    batches = [ahead.batch(i) for i in range(60)]
    assert same(sampler_of(records, 4, 2).batch(59), batches[59])
    backwards = sampler_of(records, 4, 2)
    for i in reversed(range(60)):
        assert same(backwards.batch(i), batches[i])
    assert same(pickle.loads(pickle.dumps(ahead)).batch(60), backwards.batch(60))


def test_the_seed_and_only_the_seed_moves_batches():
    records = made_of(*[([0] * 5, [1] * 3)] * 20)
    assert same(sampler_of(records, 4, 2).batch(3), sampler_of(records, 4, 2).batch(3))
    assert not same(sampler_of(records, 4, 2).batch(3), sampler_of(records, 4, 2, seed=1).batch(3))


def test_the_order_of_records_moves_nothing():
    records = made_of(*[([0] * 5, [1] * 3)] * 8, *[([0, 1, 2], [])] * 2)
    keys = lambda rs, half: [rs[i].key for i in half]  # noqa: E731
    for number in (0, 7):
        a = sampler_of(records, 4, 2).batch(number)
        b = sampler_of(records[::-1], 4, 2).batch(number)
        assert keys(records, a.hr) == keys(records[::-1], b.hr)
        assert keys(records, a.lr) == keys(records[::-1], b.lr)


# Identities that lack a half


def test_lr_images_are_borrowed_from_another_camera_and_never_from_the_batch():
    records = made_of(*[([0, 0, 1, 1, 2], [])] * 4)
    sampler = sampler_of(records, 4, 2)
    seen = set()
    for number in range(50):
        batch = sampler.batch(number)
        assert batch.borrowed.all()
        for label in range(4):
            rows = batch.labels == label
            hr, lr = batch.hr[rows], batch.lr[rows]
            assert not set(hr.tolist()) & set(lr.tolist())
            assert len(set(lr.tolist())) == 2
            free = set(range(5 * label, 5 * label + 5)) - set(hr.tolist())
            for row, image in zip(hr, lr, strict=True):
                assert records[image].resolution is Resolution.HR
                assert records[image].pid == records[row].pid
                others = {i for i in free if records[i].camid != records[row].camid}
                assert image in others
            seen |= set(lr.tolist())
    assert seen == set(range(20))


def test_the_same_camera_is_borrowed_from_when_there_is_no_other():
    sampler = sampler_of(made_of(*[([0, 0, 0], [])] * 3), 3, 2)
    for number in range(9):
        batch = sampler.batch(number)
        for label in range(3):
            rows = batch.labels == label
            assert not set(batch.hr[rows].tolist()) & set(batch.lr[rows].tolist())


def test_another_camera_comes_before_another_image():
    records = made_of(([0, 0, 0, 1], []), ([0], [1]))
    sampler = sampler_of(records, 2, 2)
    lent = []
    for number in range(20):
        batch = sampler.batch(number)
        rows = batch.labels == 0
        if 3 not in batch.hr[rows]:
            lent.append(batch.lr[rows].tolist())
    assert lent
    assert all(images == [3, 3] for images in lent)


def test_two_hr_images_alone_give_one_and_lend_the_other():
    sampler = sampler_of(made_of(*[([0, 1], [])] * 2), 2, 2)
    uses = Counter()
    for number in range(10):
        batch = sampler.batch(number)
        for label in range(2):
            rows = batch.labels == label
            hr, lr = set(batch.hr[rows].tolist()), set(batch.lr[rows].tolist())
            assert len(hr) == len(lr) == 1
            assert hr | lr == {2 * label, 2 * label + 1}
            uses.update(hr)
    assert len(set(uses.values())) == 1


def test_who_cannot_be_paired_is_left_out_and_counted():
    records = made_of(
        ([0, 0], [1]), ([], [1, 1, 1]), ([0], []), ([0, 1, 2], []), ([0], [1]), ([], [1])
    )  # fmt: skip
    sampler = sampler_of(records, 2, 1)
    assert sampler.labels == {0: 0, 3: 1, 4: 2}
    counts = sampler.counts
    assert (counts.num_images, counts.num_identities, counts.num_borrowing) == (8, 3, 1)
    assert (counts.num_without_hr, counts.num_single) == (2, 1)
    drawn = {records[i].pid for n in range(30) for i in sampler.batch(n).hr}
    assert drawn == {0, 3, 4}


# What cannot be trained on


def test_too_few_identities_are_refused():
    with pytest.raises(ConfigError, match=r"expected at least 5 training identities, .* got 4"):
        sampler_of(made_of(*[([0], [1])] * 4), 5, 1)


def test_unknown_resolution_is_never_guessed():
    records = made_of(*[([0], [1])] * 4)
    records[2] = replace(records[2], resolution=Resolution.UNKNOWN)
    with pytest.raises(
        DatasetError, match=r"resolution of cam0/0001_00\.png is unknown; build .*mlr"
    ):
        sampler_of(records, 2, 1)


def test_junk_is_no_identity():
    records = made_of(*[([0], [1])] * 4)
    records[2] = replace(records[2], pid=-1)
    with pytest.raises(
        DatasetError, match="expected identities of 0 or more, got -1 for cam0/0001"
    ):
        sampler_of(records, 2, 1)


def test_steps_of_an_epoch_round_up():
    assert [num_steps(n, 64) for n in (1, 64, 65, 12936)] == [1, 1, 2, 203]
    assert num_steps(12936, 64, world=4) == 51
