"""Joint training: other sets' people beside the first set's, whose test part stays as it was."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from data.trees import cuhk01, cuhk03_folder, viper

from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.types import InputSpec, Resolution
from resolute.data.benchmark import DataConfig, open_split
from resolute.data.cache import PixelStore
from resolute.data.config import LoaderConfig
from resolute.data.loader import TrainLoader
from resolute.data.mlr import MlrPolicy
from resolute.data.sampler import PairSampler
from resolute.data.written import write

CUHK01 = MlrPolicy(lr_camids=(1,))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return DataConfig(name="mlr-cuhk01", root=str(cuhk01(folder / "cuhk01", 24)), mlr=CUHK01), (
        f"mlr-viper={viper(folder / 'viper', 40)}"
    )


def picture(record):
    """The key without the data set's name in front."""
    return "/".join(record.key.split("/")[-2:])


def test_query_and_gallery_are_those_of_the_first_set_alone(config):
    first, other = config
    alone, joint = open_split(first), open_split(replace(first, also_train=(other,)))
    for role in ("query", "gallery"):
        before, after = getattr(alone, role), getattr(joint, role)
        assert [(r.pid, r.camid, r.rate, r.resolution) for r in before] == [
            (r.pid, r.camid, r.rate, r.resolution) for r in after
        ]
        assert [r.source.token() for r in before] == [r.source.token() for r in after]
    added = joint.train[len(alone.train) :]
    assert [r.pid for r in alone.train] == [r.pid for r in joint.train[: len(alone.train)]]
    first_part = {r.pid for s in (alone.train, alone.query, alone.gallery) for r in s}
    assert not first_part & {r.pid for r in added}
    assert not {r.camid for r in alone.train} & {r.camid for r in added}
    assert joint.name.startswith(f"{alone.name} + mlr-viper/")
    assert joint.digest() != alone.digest()


def test_training_part_by_default_and_everybody_on_request(config):
    first, other = config
    viper_alone = open_split(DataConfig(name="mlr-viper", root=other.partition("=")[2]))
    train_only = open_split(replace(first, also_train=(other,)))
    everybody = open_split(replace(first, also_train=(other,), also_part="all"))
    added = [picture(r) for r in train_only.train if r.key.startswith("mlr-viper")]
    assert added == [r.key for r in viper_alone.train]
    whole = [r for r in everybody.train if r.key.startswith("mlr-viper")]
    expected = {r.key: r for r in (*viper_alone.train, *viper_alone.query, *viper_alone.gallery)}
    assert len({r.pid for r in whole}) == 40
    assert [picture(r) for r in whole] == sorted(expected)
    for r in whole:
        original = expected[picture(r)]
        assert (r.rate, r.resolution) == (original.rate, original.resolution)
    assert "/part=all" in everybody.name
    assert len({s.digest() for s in (viper_alone, train_only, everybody)}) == 3


def test_each_set_keeps_its_own_lr_camera(config):
    first, other = config
    # Camera 0 is named for the first set; VIPeR's usual LR camera is the other one.
    exchanged = replace(first, mlr=MlrPolicy(lr_camids=(0,)), also_train=(other,))
    joint = open_split(exchanged)
    own = {picture(r).split("/")[0] for r in joint.train if is_lr(r) and "viper" in r.key}
    assert own == {"cam_b"}
    assert {r.camid for r in joint.train if is_lr(r) and "cuhk01" in r.key} == {0}


def is_lr(record):
    return record.resolution is Resolution.LR


def test_held_out_people_are_the_first_sets(config):
    first, other = config
    alone = open_split(replace(first, validation=4))
    joint = open_split(replace(first, validation=4, also_train=(other,)))
    assert [r.pid for r in joint.query] == [r.pid for r in alone.query]
    assert "validation=4 + mlr-viper/" in joint.name


@pytest.mark.parametrize("num_instances", [1, 2])
def test_batches_mix_sets_with_different_images_per_identity(config, num_instances, tmp_path):
    first, other = config
    records = open_split(replace(first, also_train=(other,))).train
    per_identity = Counter(r.pid for r in records)
    assert set(per_identity.values()) == {2, 4}
    sampler = PairSampler(
        records, num_identities=4, num_instances=num_instances, streams=Streams(0)
    )
    visits = Counter()
    batches = 8 * len(per_identity) // 4
    for number in range(batches):
        chosen = sampler.batch(number)
        assert not chosen.borrowed.any()
        for half, flag in ((chosen.hr, Resolution.HR), (chosen.lr, Resolution.LR)):
            assert {records[i].resolution for i in half} == {flag}
            assert [sampler.labels[records[i].pid] for i in half] == chosen.labels.tolist()
        visits.update(np.unique(chosen.labels).tolist())
        for label in np.unique(chosen.labels):
            rows = chosen.hr[chosen.labels == label]
            pid = records[rows[0]].pid
            assert len(set(rows.tolist())) == min(num_instances, per_identity[pid] // 2)
    assert set(visits.values()) == {8}  # evenly by identity, however many images it has
    loader = TrainLoader(
        records,
        PixelStore.open(records, tmp_path),
        config=LoaderConfig(batch_size=8, num_instances=num_instances),
        spec=InputSpec(height=32, width=16),
        streams=Streams(0),
    )
    assert loader.num_identities == 12 + 20
    assert loader.batch(0, 0, "cpu").labels.max() < 32


def test_sets_that_may_show_the_people_tested_on_are_refused(config, tmp_path):
    first, _ = config
    pair = DataConfig(name="mlr-cuhk03-p1", root=str(cuhk03_folder(tmp_path, {1: 750})))
    for base, joined in ((first, "cuhk01"), (pair, "mlr-cuhk03-new-labeled")):
        with pytest.raises(ConfigError, match=f"{joined} shows people of {base.name}, who may be"):
            open_split(replace(base, also_train=(f"{joined}={base.root}",)))
    with pytest.raises(ConfigError, match="also_train: expected NAME=ROOT, got 'mlr-viper'"):
        open_split(replace(first, also_train=("mlr-viper",)))


def test_a_written_set_shows_the_people_it_was_made_of(config, tmp_path):
    first, other = config
    alone = open_split(replace(first, trial=0))
    write(alone, tmp_path / "written", policy=first.mlr, seed=0)
    written = f"mlr-written={tmp_path / 'written'}"
    base = DataConfig(name="mlr-written", root=str(tmp_path / "written"))
    same = (f"mlr-cuhk01={first.root}",)
    for refused in (
        replace(first, also_train=(written,)),
        replace(base, mlr=first.mlr, also_train=same),
        replace(first, also_train=(other, other)),
    ):
        with pytest.raises(ConfigError, match="expected splits of different data sets"):
            open_split(refused)
    assert len(open_split(replace(base, also_train=(other,))).train) > len(alone.train)


def test_a_written_set_is_read_as_what_it_was_made_of_alone(config, tmp_path):
    made = replace(config[0], trial=3, seed=2)
    write(open_split(made), tmp_path / "set", policy=made.mlr, seed=2)
    asked = DataConfig(name="mlr-written", root=str(tmp_path / "set"))
    with pytest.raises(ConfigError, match=r"data\.trial: .* mlr-cuhk01 with trial 3, got 0; ask f"):
        open_split(asked)
    with pytest.raises(ConfigError, match=r"data\.seed: .* with seed 2, got 1; ask for 2"):
        open_split(replace(asked, trial=3, seed=1))
    split = open_split(replace(asked, trial=3, seed=2))
    assert split.digest() == open_split(made).digest()
    # What joins in training lends its people, whichever its trial.
    joined = DataConfig(name="mlr-synthetic", also_train=(f"mlr-written={asked.root}",))
    assert "+ mlr-cuhk01/" in open_split(joined).name


@pytest.mark.data
def test_viper_with_cuhk03(shared):
    base = DataConfig(name="mlr-viper", root=str(shared / "data/viper"))
    source = f"mlr-cuhk03-p1={shared / 'data/cuhk03'}"
    joint = open_split(replace(base, also_train=(source,)))
    everybody = open_split(replace(base, also_train=(source,), also_part="all"))
    assert len({r.pid for r in joint.train}) == 316 + 743
    assert len({r.pid for r in everybody.train}) == 316 + 843
    assert len(joint.query) == len(joint.gallery) == 316
