"""``embed``, ``compare`` and ``calibrate`` as a user meets them."""

import json
import signal
import subprocess
import sys

import pytest
from cli.test_cli import run
from inference.small import noise, person, save_small
from PIL import Image
from waiting import wait_until

from resolute.core.errors import ConfigError
from resolute.inference.joined import read_archive


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_small(tmp_path_factory.mktemp("run")))


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for pid in range(1, 6):
        Image.fromarray(person(pid)).save(folder / f"{pid}.jpg")
    return folder


def test_embed_in_one_run_and_in_shards(capsys, model, crops, tmp_path):
    words = ["embed", str(crops), "--model", model, "--block-size", "2", "--threads", "1", "--out"]
    code, out, err = run(capsys, *words, str(tmp_path / "a.npz"))
    assert code == 0, err
    assert "5 images embedded" in out
    assert "5 of 5 images" in err
    assert "images/s" in err
    for number in range(2):
        shard = [str(tmp_path / "b.npz"), "--shard", f"{number}/2", "--quiet"]
        code, out, err = run(capsys, *words, *shard)
        assert (code, err) == (0, "")
        assert "b.npz.parts" in out
    assert run(capsys, "embed", "--merge", "--out", str(tmp_path / "b.npz"))[0] == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert len(read_archive(tmp_path / "a.npz")[0]) == 5


@pytest.mark.parametrize("verb", ["embed", "index"])
def test_threads_reach_the_runtime_of_an_exported_file(capsys, monkeypatch, tmp_path, verb):
    asked = []

    def opened(file, **settings):
        asked.append(settings["threads"])
        raise ConfigError("far enough")

    monkeypatch.setattr("resolute.inference.load.open_exported", opened)
    (tmp_path / "full.onnx").touch()
    words = ["--model", str(tmp_path / "full.onnx"), "--out", str(tmp_path / "a.npz")]
    assert run(capsys, verb, str(tmp_path), *words, "--threads", "3")[0] == 2
    assert asked == [3]
    assert "not on device cuda" in run(capsys, verb, "x", *words, "--device", "cuda")[2]


def test_broken_images_stop_or_are_counted(capsys, model, crops, tmp_path):
    (crops / "3.jpg").write_bytes(b"broken")
    words = ["embed", str(crops), "--model", model, "--out", str(tmp_path / "a.npz")]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "3.jpg: expected a JPEG" in err
    code, out, err = run(capsys, *words, "--on-error", "skip")
    assert code == 0
    assert "4 images embedded, 1 skipped" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embed"], "the following arguments are required: --out"),
        (["embed", "--out", "x.npz"], "expected the folder of images and --model"),
        (["embed", "x", "--merge", "--out", "x.npz"], "give it --out alone"),
        (["embed", "x", "--model", "m", "--out", "x.npz", "--shard", "1of2"], "expected i/n"),
        (["embed", "x", "--model", "/nowhere", "--out", "x.npz"], "no model there"),
        (
            ["embed", "x", "--model", "m", "--out", "x.npz", "--modle", "m"],
            "did you mean '--model'",
        ),
        (["embed", "--merge", "--out", "/tmp/nothing-here.npz"], "no shards there"),
        (["compare", "a.jpg", "b.jpg"], "required: --model"),
        (["calibrate", "/nowhere"], "expected a run folder, to write the calibration beside"),
    ],
)
def test_mistakes_are_one_line(capsys, words, message):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_compare(capsys, model, crops, tmp_path, monkeypatch):
    Image.fromarray(noise(5, 3)).save(tmp_path / "tiny.png")
    code, out, err = run(
        capsys, "compare", str(crops / "1.jpg"), str(tmp_path / "tiny.png"), "--model", model
    )
    assert code == 0, err
    assert "distance" in out
    assert "probability  unknown: not calibrated" in out
    assert "b: too small to say" in out
    both = f"{crops / '1.jpg'},{crops / '2.jpg'}"
    code, out, _ = run(capsys, "compare", both, str(crops / "1.jpg"), "--model", model, "--json")
    found = json.loads(out)
    assert found["a"]["num_images"] == 2
    assert found["probability"] is None
    (crops / "1.jpg").rename(crops / "1,2.jpg")
    odd = str(crops / "1,2.jpg")
    code, out, err = run(capsys, "compare", odd, str(crops / "2.jpg"), "--model", model, "--json")
    assert code == 0, err
    assert json.loads(out)["a"]["num_images"] == 1
    many = ",".join(["2.jpg"] * 100)
    monkeypatch.chdir(crops)
    code, out, err = run(capsys, "compare", many, odd, "--model", model, "--json")
    assert code == 0, err
    assert json.loads(out)["a"]["num_images"] == 100


def test_calibrate_asks_for_people(capsys, tmp_path):
    folder = save_small(tmp_path / "run", split="mlr-synthetic", split_digest="x")
    code, _, err = run(capsys, "calibrate", str(folder))
    assert code == 2
    assert "held no people of mlr-synthetic out of training" in err
    words = "--data mlr-synthetic --data.synthetic.seed 4 --data.synthetic.num_identities 8"
    cache = ["--data.cache", str(tmp_path / "cache"), "--train.threads", "1"]
    code, out, err = run(capsys, "calibrate", str(folder), *words.split(), *cache)
    assert code == 0, err
    assert "calibrated on mlr-synthetic" in out
    assert "false matches 0.1" in out


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_done_and_exit_code_130(model, crops, tmp_path):
    for pid in range(6, 60):
        Image.fromarray(person(pid)).save(crops / f"{pid}.jpg")
    out = tmp_path / "a.npz"
    words = [sys.executable, "-m", "resolute", "embed", str(crops), "--model", model]
    words += ["--out", str(out), "--block-size", "1", "--threads", "1"]
    # A shell starts what it puts into the background with Ctrl-C ignored, and children inherit it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    parts = tmp_path / "a.npz.parts"
    try:
        wait_until(
            lambda: process.poll() is not None or len(list(parts.glob("block-*"))) >= 3, seconds=60
        )
    finally:
        process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate()[1]
    assert process.returncode == 130
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert len(read_archive(out)[0]) == 59
