import json
from dataclasses import replace

import pytest
import torch
from engine.fakes import METADATA, TinyMethod

from resolute.core.errors import CheckpointError
from resolute.core.tensorfile import write_tensors
from resolute.engine.checkpoint import (
    Checkpoint,
    RunState,
    check_same_run,
    load_checkpoint,
    save_checkpoint,
)
from resolute.inference.model_file import load_model, read_metadata, save_model

STATE = RunState(
    step=3, steps_per_epoch=5, seed=1, threads=2, world_size=1, device="cpu", precision="float32"
)


def checkpoint(**changes):
    moments = {"exp_avg": torch.ones(2, 3), "step": torch.tensor(4.0)}
    values = {
        "model": TinyMethod().state_dict(),
        "optimisers": {"main": {"stem.0.weight": moments}, "other": {"a.b": {"m": torch.ones(1)}}},
        "rng": {"cpu": torch.get_rng_state()},
        "state": STATE,
        "metadata": METADATA,
    }
    return Checkpoint(**{**values, **changes})


def test_checkpoint_comes_back_whole(tmp_path):
    path, saved = tmp_path / "c", checkpoint()
    save_checkpoint(path, saved)
    found = load_checkpoint(path)
    assert found.state == saved.state
    assert found.metadata == saved.metadata
    for part in ("model", "rng"):
        expected = getattr(saved, part)
        assert getattr(found, part).keys() == expected.keys()
        assert all(torch.equal(getattr(found, part)[n], t) for n, t in expected.items())
    assert found.optimisers.keys() == saved.optimisers.keys()
    for phase, state in saved.optimisers.items():
        for name, moments in state.items():
            for key, tensor in moments.items():
                assert torch.equal(found.optimisers[phase][name][key], tensor)


def test_file_holds_no_pickle_and_its_document_is_json(tmp_path):
    save_checkpoint(tmp_path / "c", checkpoint())
    blob = (tmp_path / "c").read_bytes()
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    document = json.loads(header["__metadata__"]["resolute"])
    assert document["state"]["threads"] == 2
    assert document["versions"]["torch"] == str(torch.__version__)
    assert document["metadata"] == METADATA
    assert {name.split("/")[0] for name in header} == {"__metadata__", "model", "optimiser", "rng"}


def test_kinds_are_not_mixed_up(tmp_path):
    save_model(tmp_path / "m", TinyMethod(), {})
    save_checkpoint(tmp_path / "c", checkpoint())
    with pytest.raises(CheckpointError, match="expected a file of kind 'checkpoint', got 'model'"):
        load_checkpoint(tmp_path / "m")
    with pytest.raises(CheckpointError, match="expected a file of kind 'model', got 'checkpoint'"):
        read_metadata(tmp_path / "c")
    with pytest.raises(CheckpointError, match="expected a file of kind 'model', got 'checkpoint'"):
        load_model(tmp_path / "c")


def test_documents_of_other_versions_are_named(tmp_path):
    write_tensors(tmp_path / "a", {}, {"state": {"pace": 1}, "metadata": {}}, kind="checkpoint")
    with pytest.raises(CheckpointError, match=r"written by another version: .*pace"):
        load_checkpoint(tmp_path / "a")
    write_tensors(tmp_path / "b", {}, {}, kind="checkpoint")
    with pytest.raises(CheckpointError, match="expected a section 'state', got None"):
        load_checkpoint(tmp_path / "b")
    write_tensors(tmp_path / "c", {}, {"metadata": 3}, kind="model")
    with pytest.raises(CheckpointError, match="expected a section 'metadata', got 3"):
        read_metadata(tmp_path / "c")


def test_same_run_is_recognised():
    def check(state=STATE, metadata=METADATA, **options):
        check_same_run(checkpoint(), state=state, metadata=metadata, where="here", **options)

    check(replace(STATE, step=0))
    with pytest.raises(CheckpointError, match="world_size was 1 and is 2; use the old values"):
        check(replace(STATE, world_size=2))
    with pytest.raises(CheckpointError, match=r"torch_version was .* and is '1'"):
        check(replace(STATE, torch_version="1"))
    check(replace(STATE, world_size=2), accept_changes=True)
    with pytest.raises(CheckpointError, match=r"start again in another folder$"):
        check(replace(STATE, steps_per_epoch=6), accept_changes=True)
