from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from data.sources import record, two_views
from data.trees import market_style

from resolute.core.config import attribute_texts, from_mapping, override, to_mapping
from resolute.core.errors import ConfigError, ProtocolError
from resolute.core.rng import Streams
from resolute.core.types import Labels, Resolution, Split
from resolute.data.benchmark import DataConfig, open_split, resolved_policy
from resolute.data.degrade import Degraded, degrade
from resolute.data.kernels import Kernel
from resolute.data.mlr import PRESETS, MlrPolicy, build, originals, with_query_rate
from resolute.evaluation.protocol import PROTOCOLS
from resolute.evaluation.scoring import evaluate

CAM_B = replace(PRESETS["default"], lr_camids=(1,))


def everyone(split):
    return [*split.train, *split.query, *split.gallery]


def rates_by_key(split):
    return {r.key: r.rate for r in everyone(split) if r.resolution is Resolution.LR}


def market(num_pids=12, num_cameras=4):
    """A Market-like split: several cameras, a query per identity and camera, distractors."""
    train = [
        record(pid, c, n) for pid in range(1, num_pids) for c in range(num_cameras) for n in (0, 1)
    ]
    test = range(100, 100 + num_pids)
    query = [record(pid, c, 9) for pid in test for c in range(num_cameras)]
    gallery = [record(pid, c, n) for pid in test for c in range(num_cameras) for n in (0, 1)]
    gallery += [record(0, c, n) for c in range(num_cameras) for n in range(3)]
    return Split(name="market1501", train=tuple(train), query=tuple(query), gallery=tuple(gallery))


# The default protocol


def test_one_view_loses_resolution_and_the_other_is_left_alone():
    split = two_views(12, per_view=2)
    made = build(split, CAM_B, streams=Streams(0))
    sources = {r.key: r.source for r in everyone(split)}
    assert {r.camid for r in made.query} == {1}
    assert {r.camid for r in made.gallery} == {0}
    assert len(made.train) == len(split.train)
    for r in everyone(made):
        if r.camid == 1:
            assert r.resolution is Resolution.LR
            assert r.rate in (2, 3, 4)
            expected = degrade(sources[r.key].pixels(), r.rate, CAM_B.kernel)
            np.testing.assert_array_equal(r.source.pixels(), expected)
        else:
            assert (r.resolution, r.rate) == (Resolution.HR, 1)
            assert r.source is sources[r.key]
    for role in ("train", "query", "gallery"):
        keys = [r.key for r in getattr(made, role)]
        assert keys == sorted(keys)


def test_thirds_are_exact_and_cut_over_the_whole_data_set():
    for num_pids in (12, 13, 14):
        made = build(two_views(num_pids), CAM_B, streams=Streams(0))
        counts = Counter(rates_by_key(made).values())
        assert sum(counts.values()) == num_pids
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("name", ["default", "vpfa-viper", "vpfa-cuhk03", "prpr-camera1"])
def test_the_trial_moves_no_rate(name):
    policy = PRESETS[name] if name != "default" else CAM_B
    policy = replace(policy, roles=("train", "query", "gallery"))
    made = [
        rates_by_key(build(two_views(30, trial=t), policy, streams=Streams(0))) for t in range(4)
    ]
    assert made[0]
    assert all(rates == made[0] for rates in made)


def test_the_order_of_records_moves_no_rate():
    split = two_views(20)
    shuffled = replace(split, train=split.train[::-1], query=split.query[::-1])
    made = [build(s, CAM_B, streams=Streams(0)) for s in (split, shuffled)]
    assert made[0].digest() == made[1].digest()


def test_the_seed_moves_the_rates():
    made = [rates_by_key(build(two_views(30), CAM_B, streams=Streams(s))) for s in (0, 0, 1)]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_drawn_rates_are_part_of_published_results():
    made = build(two_views(9), CAM_B, streams=Streams(0))
    rates = rates_by_key(made)
    assert [rates[key] for key in sorted(rates)] == [3, 4, 4, 3, 2, 3, 4, 2, 2]


def test_the_name_says_what_was_done():
    streams = Streams(0)
    made = build(two_views(12, trial=3), CAM_B, streams=streams)
    assert made.name == "mlr-viper/default/lr=cam1/thirds(2,3,4)/bicubic/trial3"
    sing = build(two_views(12), PRESETS["sing"], streams=streams)
    assert sing.name == "mlr-viper/sing/lr=cam0/thirds(2,3,4)/bicubic/trial0"
    exchanged = replace(PRESETS["exchanged"], lr_camids=(1,))
    assert exchanged.label() == "exchanged/lr=not-cam1/thirds(2,3,4)/bicubic"
    assert PRESETS["vpfa-viper"].label() == "vpfa-viper/lr=per-identity/per_identity(2,3,4)/bicubic"
    assert "/opencv-bilinear" in PRESETS["prpr-camera1"].label()
    assert build(market(), PRESETS["psrnet-camera3"], streams=streams).name.endswith("/bicubic")


def test_a_changed_preset_says_so():
    assert replace(CAM_B, rates=(2.0, 8.0)).label().startswith("default-changed/")
    assert replace(CAM_B, distractors="all").label().startswith("default-changed/")
    assert replace(CAM_B, name="mine", distractors="all").label().startswith("mine/")
    assert MlrPolicy(name="sing", lr_camids=(1,)).label().startswith("sing-changed/lr=cam1/")
    assert MlrPolicy(name="exchanged", lr_camids=(1,)).label().startswith("exchanged-changed/")


def test_as_an_option_the_name_brings_the_preset():
    changed = override(DataConfig(), {"mlr.rates": "2", "mlr.name": "sing"}).mlr
    assert changed == replace(PRESETS["sing"], rates=(2.0,))
    with pytest.raises(
        ConfigError, match=r"mlr\.name: unknown preset 'singg': did you mean 'sing'"
    ):
        override(DataConfig(), {"mlr.name": "singg"})


def test_real_low_resolution_is_not_shrunk():
    real = [
        replace(record(1, c), resolution=r) for c, r in enumerate((Resolution.HR, Resolution.LR))
    ]
    split = Split(name="caviar trial 0", train=(), query=(real[1],), gallery=(real[0],))
    with pytest.raises(ProtocolError, match=r"is LR as it came: use the data set as it is"):
        build(split, CAM_B, streams=Streams(0))
    for cameras in ((), (1,)):
        config = DataConfig(name="mlr-caviar", root="x", mlr=MlrPolicy(lr_camids=cameras))
        with pytest.raises(ConfigError, match=r"use --data\.name caviar"):
            resolved_policy(config)


def test_notes_count_what_was_degraded():
    made = build(two_views(12), CAM_B, streams=Streams(0))
    train = Counter(r.rate for r in made.train if r.rate > 1)
    assert made.notes[0] == "train: 12 images, " + ", ".join(
        f"{train[rate]} at rate {rate:g}" for rate in sorted(train)
    )
    assert made.notes[2] == "gallery: 6 images, none degraded"


# Other policies


def test_exchanged_views_degrade_the_complement():
    split = two_views(12)
    one = build(split, CAM_B, streams=Streams(0))
    other = build(split, replace(PRESETS["exchanged"], lr_camids=(1,)), streams=Streams(0))
    assert {r.camid for r in other.query} == {0}
    assert rates_by_key(one).keys().isdisjoint(rates_by_key(other))
    assert {r.key for r in one.query} == {r.key for r in other.gallery}


def test_query_is_every_test_image_of_the_lr_view_without_distractors():
    split = market()
    made = build(split, PRESETS["psrnet-camera3"], streams=Streams(0))
    labelled = {r.key for r in split.gallery if r.pid > 0}  # official queries are dropped
    assert {r.key for r in made.query} == {k for k in labelled if k.startswith("cam2/")}
    assert {r.key for r in made.gallery} == {k for k in labelled if not k.startswith("cam2/")}
    both = build(split, replace(PRESETS["psrnet-camera3"], query_set="lr"), streams=Streams(0))
    tested = labelled | {r.key for r in split.query}
    assert {r.key for r in both.query} == {k for k in tested if k.startswith("cam2/")}


@pytest.mark.parametrize(
    ("distractors", "cameras"), [("none", set()), ("hr", {1, 2, 3}), ("all", {0, 1, 2, 3})]
)
def test_distractors_stay_as_asked_and_are_never_asked_for(distractors, cameras):
    policy = replace(PRESETS["prpr-camera1"], distractors=distractors)
    made = build(market(), policy, streams=Streams(0))
    assert {r.camid for r in made.gallery if r.pid == 0} == cameras
    assert all(r.pid > 0 for r in made.query)
    assert all((r.camid == 0) == (r.resolution is Resolution.LR) for r in made.gallery)


def test_identity_zero_is_a_person_where_it_is_asked_for():
    made = build(two_views(12), CAM_B, streams=Streams(0))
    trial = two_views(12)
    assert 0 in {r.pid for r in (*trial.train, *trial.query)}
    test_pids = {r.pid for r in trial.query}
    assert {r.pid for r in made.query} == {r.pid for r in made.gallery} == test_pids


def test_official_roles_stay_and_both_mix_resolutions():
    split = market()
    made = build(split, PRESETS["vpfa-market"], streams=Streams(0))
    for role in ("train", "query", "gallery"):
        before, after = getattr(split, role), getattr(made, role)
        assert {r.key for r in before} == {r.key for r in after}
        assert {r.resolution for r in after} == {Resolution.HR, Resolution.LR}
        for pid in {r.pid for r in after}:
            assert len({r.camid for r in after if r.pid == pid and r.rate > 1}) == 1
    one_view = {(r.pid, r.camid) for r in made.query if r.rate > 1}
    other_view = {(r.pid, r.camid) for r in made.gallery if r.rate > 1 and r.pid > 0}
    assert one_view != other_view


def test_per_identity_rules():
    made = build(two_views(40, per_view=2), PRESETS["vpfa-viper"], streams=Streams(0))
    lr = [r for r in everyone(made) if r.rate > 1]
    views, rates = {}, {}
    for r in lr:
        views.setdefault(r.pid, set()).add(r.camid)
        rates.setdefault(r.pid, set()).add(r.rate)
    assert len(views) == 40
    assert all(len(seen) == 1 for seen in (*views.values(), *rates.values()))
    assert {camid for seen in views.values() for camid in seen} == {0, 1}


def test_untouched_training_stays_untouched():
    made = build(two_views(20), PRESETS["vpfa-cuhk03"], streams=Streams(0))
    assert {r.rate for r in made.train} == {1.0}
    assert {r.resolution for r in made.train} == {Resolution.HR}
    assert {r.resolution for r in made.query} == {Resolution.LR}


def test_per_camera_pair_draws_once_per_set_of_cameras():
    pairs = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)]
    records = [
        record(10 * i + n, c) for i, pair in enumerate(pairs) for n in range(8) for c in pair
    ]
    test = [replace(r, key=f"test/{r.key}", pid=r.pid + 1000) for r in records]
    split = Split(name="cuhk03", train=tuple(records), query=tuple(test), gallery=tuple(test))
    policy = MlrPolicy(name="pairs", lr_view="per_camera_pair")
    made = build(split, policy, streams=Streams(2))
    chosen = {r.camid for r in everyone(made) if r.rate > 1}
    assert sorted((c + 1) // 2 for c in chosen) == [1, 2, 3, 4, 5]
    assert chosen != {pair[0] for pair in pairs}
    assert {r.key for r in made.query}.isdisjoint(r.key for r in made.gallery)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name):
    policy = PRESETS[name]
    assert policy.name == name
    if policy.lr_view == "fixed" and not policy.lr_camids:
        policy = replace(policy, lr_camids=(1,))
    made = build(market(), policy, streams=Streams(0))
    assert rates_by_key(made)
    assert not {r.key for r in made.train} & {r.key for r in (*made.query, *made.gallery)}
    assert name in made.name


def test_policies_are_settings():
    policy = PRESETS["prpr-camera1"]
    assert from_mapping(MlrPolicy, to_mapping(policy)) == policy
    assert set(attribute_texts(MlrPolicy)) == {f.name for f in fields(MlrPolicy)}
    assert set(attribute_texts(Kernel)) == {f.name for f in fields(Kernel)}


# Rates nobody trained on


def test_queries_at_another_rate_come_from_their_originals():
    split = two_views(12)
    made = build(split, CAM_B, streams=Streams(0))
    sources = {r.key: r.source for r in everyone(split)}
    tiny = with_query_rate(made, 8)
    assert tiny.name == f"{made.name}/query-rate=8"
    assert tiny.gallery == made.gallery
    assert tiny.train == made.train
    for r in tiny.query:
        assert (r.resolution, r.rate) == (Resolution.LR, 8)
        assert r.source.pixels().shape == (4, 2, 3)
        expected = degrade(sources[r.key].pixels(), 8, CAM_B.kernel)
        np.testing.assert_array_equal(r.source.pixels(), expected)
    whole = with_query_rate(tiny, 1)
    assert all((r.resolution, r.rate) == (Resolution.HR, 1) for r in whole.query)
    assert all(r.source is sources[r.key] for r in whole.query)
    assert len({made.digest(), tiny.digest(), whole.digest()}) == 3


def test_originals_are_whole_again():
    split = two_views(12)
    made = build(split, CAM_B, streams=Streams(0))
    sources = {r.key: r.source for r in everyone(split)}
    back = originals(made.train)
    assert all(r.source is sources[r.key] for r in back)
    assert [(r.key, r.rate) for r in back] == [(r.key, r.rate) for r in made.train]


# What cannot be right


def test_building_twice_is_refused():
    made = build(two_views(12), CAM_B, streams=Streams(0))
    with pytest.raises(ProtocolError, match="expected untouched images, but cam1/"):
        build(made, CAM_B, streams=Streams(0))


@pytest.mark.parametrize("camids", [(), (2,), (1, 7)])
def test_a_camera_that_is_not_there_is_refused(camids):
    policy = replace(PRESETS["default"], lr_camids=camids)
    with pytest.raises(
        ConfigError, match=r"expected some of the cameras \[0, 1\] of viper trial 0"
    ):
        build(two_views(12), policy, streams=Streams(0))


def test_a_view_that_leaves_no_gallery_is_refused():
    policy = replace(PRESETS["default"], lr_camids=(0, 1))
    with pytest.raises(ProtocolError, match="expected query and gallery images, got 0 and 0"):
        build(two_views(12), policy, streams=Streams(0))


def test_queries_without_originals_cannot_be_degraded_anew():
    made = build(two_views(12), CAM_B, streams=Streams(0))
    bare = replace(made, query=tuple(
        replace(r, source=r.source.source) if i else r for i, r in enumerate(made.query)
    ))  # fmt: skip
    with pytest.raises(ProtocolError, match="LR queries with originals, got 5 of 6 without"):
        with_query_rate(bare, 8)
    with pytest.raises(ProtocolError, match="got 0 of 0 without"):
        with_query_rate(two_views(12), 8)
    with pytest.raises(ConfigError, match="at least 1"):
        with_query_rate(made, 0.5)


def test_lr_images_of_people_without_hr_images_are_dropped_and_counted():
    split = two_views(12)
    whole = build(split, CAM_B, streams=Streams(0))
    alone = split.gallery[0].pid  # whom the LR camera alone has seen now
    made = build(replace(split, gallery=split.gallery[1:]), CAM_B, streams=Streams(0))
    assert [r for r in whole.query if r.pid != alone] == list(made.query)
    assert made.notes[-1] == "1 LR images dropped: no gallery image shows their people"
    assert not any("dropped" in note for note in whole.notes)


def test_unanswerable_queries_of_official_roles_are_counted():
    split = market()
    left = replace(split, gallery=tuple(r for r in split.gallery if r.pid != 100))
    made = build(left, PRESETS["vpfa-market"], streams=Streams(0))
    assert len(made.query) == len(split.query)
    assert made.notes[-1] == "4 queries have no gallery image of their identity"


def test_people_whom_the_lr_camera_alone_has_seen_do_not_stop_a_score(tmp_path):
    names = [f"{pid:04d}_c{camera}_f0000001.jpg" for pid in (1, 3, 4) for camera in (1, 2)]
    gallery = [name.replace("f0000001", "f0000002") for name in names[2:]]
    del gallery[2]  # of 0004 camera 2 alone has images, as of 408 people of DukeMTMC-reID one
    parts = {"train": names[:2], "query": names[2:4], "gallery": gallery}
    root = str(market_style(tmp_path, parts))
    config = DataConfig(name="mlr-dukemtmc-reid", root=root, mlr=CAM_B)
    split = open_split(config)
    assert [(r.pid, r.camid) for r in split.query] == [(3, 1), (3, 1)]
    assert split.notes[-1] == "1 LR images dropped: no gallery image shows their people"
    query, gallery = (Labels.of(part, [64] * len(part)) for part in (split.query, split.gallery))
    distances = np.zeros((len(query.pids), len(gallery.pids)))
    report = evaluate(PROTOCOLS["mlr"], distances, query, gallery, streams=Streams(0))
    assert report.num_valid == 2


def test_policies_that_contradict_themselves_are_refused():
    with pytest.raises(ConfigError, match="mlr rates: expected at least one rate"):
        MlrPolicy(rates=())
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        MlrPolicy(rates=(0.5,))
    with pytest.raises(ConfigError, match="only for lr_view = 'fixed', 'per_identity' draws"):
        MlrPolicy(lr_view="per_identity", lr_camids=(1,))
    with pytest.raises(ConfigError, match="needs query_set = 'official'"):
        MlrPolicy(lr_view="per_identity_and_role")


@pytest.mark.data
def test_real_viper_is_cut_in_exact_thirds(shared):
    from resolute.data import viper

    names = {}
    for trial in (0, 1):
        split = viper.read(shared / "data/viper", trial=trial, streams=Streams(0))
        made = build(split, CAM_B, streams=Streams(0))
        counts = Counter(rates_by_key(made).values())
        assert sorted(counts.values()) == [210, 211, 211]
        assert (len(made.train), len(made.query), len(made.gallery)) == (632, 316, 316)
        names[trial] = rates_by_key(made)
        assert all(isinstance(r.source, Degraded) for r in made.query)
        assert made.query[0].source.pixels().shape[0] == 128 // int(made.query[0].rate)
    assert names[0] == names[1]
