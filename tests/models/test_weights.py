import os
import pickle
import warnings
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision

from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.rng import Stream, Streams
from resolute.models import pretrained
from resolute.models.backbone import build_backbone
from resolute.models.config import ModelConfig
from resolute.models.pretrained import imagenet_file, recognise, start_backbone
from resolute.models.staged import Staged
from resolute.models.two_stream import TwoStream
from resolute.models.weights import load_weights, read_state


def build(name="osnet_x0_25", seed=3):
    with Streams(seed).torch_default(Stream.INITIALISATION):
        return build_backbone(name)


def assert_same(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    names = [n for n in ours if not n.endswith("num_batches_tracked")]
    assert all(torch.equal(ours[n], theirs[n]) for n in names)


def prefixed(state, prefix):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


@pytest.fixture(scope="module")
def source():
    """A network whose every value differs from a fresh one."""
    network = build(seed=9)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.25)
    return network


def torchreid(state):
    wrapped = prefixed(state, "module.") | {"module.classifier.weight": torch.ones(5, 512)}
    return {
        "state_dict": wrapped,
        "epoch": 60,
        "rank1": np.float64(0.5),
        "rank5": np.float32(0.75),
        "optimizer": {"state": {}, "param_groups": [{"lr": 3e-4}]},
    }


def fastreid(state):
    heads = {"heads.weight": torch.ones(5, 512), "heads.bottleneck.0.weight": torch.ones(512)}
    pixels = {"pixel_mean": torch.ones(1, 3, 1, 1)}
    return {"model": prefixed(state, "backbone.") | heads | pixels, "iteration": np.int64(7)}


@pytest.mark.parametrize("layout", [torchreid, fastreid, lambda state: state])
@pytest.mark.parametrize("zipped", [True, False])
def test_layouts_of_the_toolboxes(tmp_path, source, layout, zipped):
    path = tmp_path / "model.pth.tar-60"
    torch.save(layout(source.state_dict()), path, _use_new_zipfile_serialization=zipped)
    target = build()
    report = load_weights(target, path)
    assert_same(target, source)
    assert not report.missing
    assert not report.mismatched
    assert all("classifier" in n or "heads" in n or "pixel" in n for n in report.unexpected)


def test_names_that_numpy_1_wrote(tmp_path, source):
    path = tmp_path / "old.pth"
    torch.save(torchreid(source.state_dict()), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(old)
    target = build()
    load_weights(target, path)
    assert_same(target, source)


def test_fastreid_and_strong_baseline_resnets(tmp_path):
    reference = torchvision.models.resnet18(weights=None)
    for prefix in ("backbone.", "module.base."):
        torch.save(prefixed(reference.state_dict(), prefix), tmp_path / "r.pth")
        target = build("resnet18")
        report = load_weights(target, tmp_path / "r.pth")
        assert report.unexpected == ("fc.weight", "fc.bias")
        for part in ("conv1", "bn1", "layer1", "layer4"):
            assert_same(target.get_submodule(part), reference.get_submodule(part))


def test_our_own_two_stream_weights(tmp_path, source):
    net = TwoStream(source, two_encoders=True)
    for parameter in net.encoder_lr.parameters():
        parameter.data.fill_(7.0)  # E_L must not stand in for E_H
    state = prefixed(net.state_dict(), "network.") | {"raft.head.0.weight": torch.ones(2)}
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    target = build()
    report = load_weights(target, path)
    assert_same(target, source)
    assert "raft.head.0.weight" in report.unexpected
    assert any("encoder_lr" in name for name in report.unexpected)


def test_the_extractor_of_a_rain_run(tmp_path, source):
    state = prefixed(Staged(source).state_dict(), "extractor.")
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    target = build()
    assert not load_weights(target, path).unexpected
    assert_same(target, source)


def test_half_precision_is_widened(tmp_path, source):
    state = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "half.safetensors")
    target = build()
    load_weights(target, tmp_path / "half.safetensors")
    assert target.conv1.conv.weight.dtype == torch.float32
    assert torch.equal(target.conv1.conv.weight, state["conv1.conv.weight"].float())


def test_report_counts_and_nothing_changes_on_error(tmp_path, source):
    state = dict(source.state_dict())
    del state["fc.0.bias"]
    state["conv5.bn.weight"] = torch.ones(3)
    state["conv5.bn.bias"] = torch.ones(128, dtype=torch.int64)
    state["extra"] = torch.ones(1)
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    target, untouched = build(), build()
    with pytest.raises(
        CheckpointError,
        match=r"filled \d+ of \d+ tensors; missing: fc.0.bias; wrong shape: conv5.bn.weight, "
        r"conv5.bn.bias; not used: extra: choose another .* model.partial_weights",
    ):
        load_weights(target, tmp_path / "w.safetensors")
    assert_same(target, untouched)
    report = load_weights(target, tmp_path / "w.safetensors", partial=True)
    assert report.missing == ("fc.0.bias",)
    assert report.mismatched == ("conv5.bn.weight", "conv5.bn.bias")
    assert report.unexpected == ("extra",)
    assert torch.equal(target.conv1.conv.weight, source.conv1.conv.weight)
    assert torch.equal(target.fc[0].bias, untouched.fc[0].bias)


def test_wrong_backbone_shows_names(tmp_path, source):
    torch.save({"encoder.a": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"file has encoder.a, the backbone wants conv1.* and \d+ more"
    ):
        load_weights(source, tmp_path / "a.pth", partial=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path, source, value):
    state = {k: v.clone() for k, v in source.state_dict().items()}
    state["conv5.bn.weight"][3] = value
    torch.save(state, tmp_path / "w.pth")
    target, untouched = build(), build()
    with pytest.raises(CheckpointError, match=r"not finite in conv5.bn.weight"):
        load_weights(target, tmp_path / "w.pth")
    assert_same(target, untouched)


def test_two_tensors_of_one_name(tmp_path, source):
    state = source.state_dict() | prefixed(source.state_dict(), "module.")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"two tensors for conv1.conv.weight"):
        load_weights(source, tmp_path / "w.pth")


class Creates:
    """A pickle that would make a file when loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain"])
def test_code_is_never_run(tmp_path, how):
    content = {"state_dict": {"w": torch.ones(1)}, "extra": Creates(tmp_path / "owned")}
    path = tmp_path / "evil.pth"
    if how == "plain":
        path.write_bytes(pickle.dumps({"extra": Creates(tmp_path / "owned")}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match=r"evil.pth: ") as caught:
        read_state(path)
    if how != "plain":
        assert "would run posix.mkdir" in str(caught.value)
        assert "safetensors" in str(caught.value)
    assert not (tmp_path / "owned").exists()


def test_a_whole_pickled_model_is_refused(tmp_path, source):
    torch.save(source, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"would run resolute.models.osnet.OSNet"):
        read_state(tmp_path / "model.pth")


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent.pth: no such file"):
        read_state(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match=r"a folder, not a file"):
        read_state(tmp_path)
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match=r"got other content \(first bytes b'<!DO'\)"):
        read_state(tmp_path / "page.pth")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(CheckpointError, match=r"got other content"):
        read_state(tmp_path / "empty.pth")
    torch.save(torch.ones(2), tmp_path / "tensor.pth")
    with pytest.raises(CheckpointError, match=r"expected tensors by name, got Tensor"):
        read_state(tmp_path / "tensor.pth")
    torch.save({"epoch": 1, "lr": 0.1}, tmp_path / "log.pth")
    with pytest.raises(CheckpointError, match=r"got the keys epoch, lr"):
        read_state(tmp_path / "log.pth")


@pytest.mark.filterwarnings("ignore:.*TorchScript", "ignore:.*torch.jit")
def test_a_program_is_no_weight_file(tmp_path):
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(CheckpointError, match=r"holds a program, save the state dict") as caught:
        read_state(path)
    assert "arbitrary code" not in str(caught.value)  # torch's advice is not ours


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "w.pth"
    path.touch(mode=0)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        read_state(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_give_one_kind_of_error(tmp_path, kind):
    state = {f"layer{i}.weight": torch.ones(4, 3) for i in range(5)}
    path = tmp_path / "whole"
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        content = {"state_dict": state, "rank1": np.float64(0.5)}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for cut in range(1, 10):
        path.write_bytes(whole[: len(whole) * cut // 10])
        with pytest.raises(CheckpointError):
            read_state(path)
    draw = Streams(4).numpy(Stream.SYNTHETIC)
    refused = 0
    for _ in range(60):
        broken = bytearray(whole)
        for position in draw.integers(0, min(len(whole), 900), size=4):
            broken[position] = draw.integers(256)
        path.write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on odd pickles
            try:
                read_state(path)
            except CheckpointError:
                refused += 1
    assert refused > 20


def test_a_file_of_another_backbone_says_which(tmp_path, source):
    torch.save(source.state_dict(), tmp_path / "a.pth")
    config = ModelConfig(backbone="osnet_x0_5", weights=str(tmp_path / "a.pth"))
    with pytest.raises(CheckpointError, match=r"the file fits model.backbone osnet_x0_25$"):
        start_backbone(config)
    torch.save({"encoder.a": torch.ones(1)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"choose another model.backbone$"):
        start_backbone(replace(config, weights=str(tmp_path / "b.pth")))


def test_recognise(tmp_path, source):
    torch.save(torchreid(source.state_dict()), tmp_path / "a.pth")
    assert recognise(tmp_path / "a.pth").backbone == "osnet_x0_25"
    # ResNet-34 holds every tensor of ResNet-18, so the larger must win
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "b.pth")
    assert recognise(tmp_path / "b.pth") == ModelConfig(
        backbone="resnet34", weights=str(tmp_path / "b.pth")
    )
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("fc.")}
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"missing: fc.0.weight.*that is osnet_x0_25"):
        recognise(tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("prefix", "extra", "stem", "remark"),
    [
        ("backbone.", {"pixel_mean": torch.ones(3)}, {"stem_pool_padding": 0}, "padding 0 to run"),
        ("module.base.", {}, {"stem_relu": False}, "stem_relu false to run"),
        ("module.", {}, {}, ""),
    ],
)
def test_the_stem_of_the_toolbox_that_wrote_a_file(tmp_path, prefix, extra, stem, remark):
    theirs = build_backbone("resnet18", **stem)
    torch.save(prefixed(theirs.state_dict(), prefix) | extra, tmp_path / "w.pth")
    found = recognise(tmp_path / "w.pth")
    assert found == ModelConfig(backbone="resnet18", weights=str(tmp_path / "w.pth"), **stem)
    ours, report = start_backbone(found)
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
    assert not report.remark
    _, report = start_backbone(ModelConfig(backbone="resnet18", weights=found.weights))
    assert remark in report.summary()
    assert bool(report.remark) == bool(remark)


def test_the_exponent_of_a_generalised_mean_comes_along(tmp_path, source):
    gem = ModelConfig(backbone="osnet_x0_25", pooling="gem")
    backbone, _ = start_backbone(gem)
    backbone.global_avgpool.exponent.data.fill_(4.5)
    torch.save(prefixed(backbone.state_dict(), "network."), tmp_path / "gem.pth")
    assert recognise(tmp_path / "gem.pth").pooling == "gem"
    again, report = start_backbone(replace(gem, weights=str(tmp_path / "gem.pth")))
    assert again.global_avgpool.exponent.item() == 4.5
    torch.save(source.state_dict(), tmp_path / "plain.pth")
    fresh, report = start_backbone(replace(gem, weights=str(tmp_path / "plain.pth")))
    assert fresh.global_avgpool.exponent.item() == 3
    assert not report.missing


def test_start_backbone(tmp_path, source):
    torch.save(source.state_dict(), tmp_path / "w.pth")
    config = ModelConfig(backbone="osnet_x0_25", weights=str(tmp_path / "w.pth"), height=64)
    backbone, report = start_backbone(config)
    assert_same(backbone, source)
    assert report is not None
    assert f"{tmp_path / 'w.pth'}: filled {len(report.matched)} of" in report.summary()
    assert start_backbone(ModelConfig(backbone="osnet_x0_25"))[1] is None
    with pytest.raises(ConfigError, match="learned for 256x128"):
        start_backbone(ModelConfig(backbone="osnet_gn_x0_5", height=128, width=64))


def test_settings_reach_the_backbone():
    config = ModelConfig(backbone="resnet18", last_stride=2, stem_relu=False, stem_pool_padding=0)
    backbone, _ = start_backbone(config)
    assert isinstance(backbone.relu, torch.nn.Identity)
    assert backbone.maxpool.padding == 0
    assert backbone.layer4[0].conv1.stride == (2, 2)


def test_imagenet_from_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    reference = torchvision.models.resnet18(weights=None)
    (tmp_path / "checkpoints").mkdir()
    torch.save(reference.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    backbone, report = start_backbone(ModelConfig(backbone="resnet18", weights="imagenet"))
    assert torch.equal(backbone.conv1.weight, reference.conv1.weight)
    assert report.unexpected == ("fc.weight", "fc.bias")


def test_imagenet_when_it_cannot_be_had(tmp_path, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(pretrained.torch.hub, "download_url_to_file", no_network)
    with pytest.raises(
        CheckpointError,
        match=r"no ImageNet weights for resnet50: https.*0676ba61.pth cannot be downloaded "
        r"\(no route to host\): put that file at .*checkpoints.* or name .* model.weights",
    ):
        imagenet_file("resnet50")
    with pytest.raises(ConfigError, match=r"no ImageNet weights for osnet_x0_5.*model.weights"):
        imagenet_file("osnet_x0_5")
