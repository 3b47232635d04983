"""Anybody's embeddings: what is read, and what each broken file says."""

import io
import sys
import zipfile

import numpy as np
import pytest

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Streams
from resolute.evaluation.features import load_features, load_layumi, load_query_gallery
from resolute.evaluation.protocol import PROTOCOLS
from resolute.evaluation.scoring import evaluate

RNG = np.random.default_rng(0)
PLAIN = {
    "vectors": RNG.normal(size=(6, 4)),
    "pids": np.array([1, 1, 2, 2, 3, 3]),
    "camids": np.array([0, 1, 0, 1, 0, 1]),
}


def save(path, **changes):
    arrays = {**PLAIN, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize("key", ["vectors", "features", "feats"])
def test_plain_vectors_are_one_normalised_stream(tmp_path, key):
    path = save(tmp_path / "q.npz", **{"vectors": None, key: PLAIN["vectors"]})
    embedding, labels = load_features(path)
    unit = PLAIN["vectors"] / np.linalg.norm(PLAIN["vectors"], axis=1, keepdims=True)
    assert embedding.vectors.shape == (6, 1, 4)
    assert embedding.vectors.dtype == embedding.quality.dtype == np.float32
    np.testing.assert_allclose(embedding.vectors[:, 0], unit, rtol=1e-6)
    assert embedding.quality.tolist() == [[1]] * 6
    assert (embedding.metric, embedding.fusion) == ("sqeuclidean", "weighted")
    assert labels.pids.tolist() == PLAIN["pids"].tolist()
    assert labels.camids.tolist() == PLAIN["camids"].tolist()
    assert labels.rates.tolist() == [1] * 6
    assert labels.heights.tolist() == [0] * 6


def test_vectors_can_stay_as_they_are(tmp_path):
    embedding, _ = load_features(save(tmp_path / "q.npz"), normalise=False)
    np.testing.assert_array_equal(embedding.vectors[:, 0], PLAIN["vectors"].astype(np.float32))


def test_everything_an_embedding_has(tmp_path):
    path = save(
        tmp_path / "q.npz",
        vectors=RNG.normal(size=(6, 2, 4)).astype(np.float16),
        pids=PLAIN["pids"].astype(float),
        rates=np.array([2, 3, 4, 2, 3, 4]),
        heights=np.full(6, 64, dtype=np.uint8),
        quality=np.full((6, 2), 0.5),
        metric="euclidean",
        fusion="constant",
        constant=0.25,
        fingerprint="abc",
    )
    embedding, labels = load_features(path)
    assert embedding.fingerprint == "abc"
    assert embedding.vectors.shape == (6, 2, 4)
    np.testing.assert_allclose(np.linalg.norm(embedding.vectors, axis=2), 1, rtol=1e-6)
    assert embedding.quality.tolist() == [[0.5, 0.5]] * 6
    assert (embedding.metric, embedding.fusion, embedding.constant) == (
        "euclidean",
        "constant",
        0.25,
    )
    assert labels.rates.tolist() == [2, 3, 4, 2, 3, 4]
    assert labels.heights.dtype == labels.pids.dtype == np.int64


BROKEN = {
    "pids missing, got vectors, camids": {"pids": None},
    r"camids missing, .*--protocol.camera_rule none": {"camids": None},
    "expected one of vectors, features, feats, got pids, camids": {"vectors": None},
    "expected one of vectors, features, feats, got vectors": {"feats": PLAIN["vectors"]},
    "unknown key 'camid': did you mean 'camids'": {"camid": PLAIN["camids"]},
    r"vectors: expected \(N, D\) or \(N, S, D\), got \(6,\)": {"vectors": np.zeros(6)},
    r"pids: expected numbers of shape \(6,\), got int64 \(5,\)": {"pids": PLAIN["pids"][:5]},
    r"camids: expected numbers of shape \(6,\), got <U1": {"camids": np.array(list("abcabc"))},
    "pids: expected whole numbers": {"pids": PLAIN["pids"] + 0.5},
    "vectors: some values are not finite": {"vectors": np.full((6, 4), np.nan)},
    "vectors: 6 vectors are all zeros, first at image 0": {"vectors": np.zeros((6, 4))},
    r"quality: expected numbers of shape \(6, 1\)": {"quality": np.ones((6, 2))},
    "unknown metric 'cosine'": {"metric": "cosine"},
    "unknown fusion 'mid'": {"fusion": "mid"},
    r"constant: expected numbers of shape \(\)": {"constant": np.ones(2)},
    r"fingerprint: expected one text, got \['a', 'b'\]": {"fingerprint": np.array(["a", "b"])},
    r"fingerprint: expected one text, got \['7'\]": {"fingerprint": np.array(7)},
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_files_say_what_is_wrong(tmp_path, message):
    path = save(tmp_path / "broken.npz", **BROKEN[message])
    with pytest.raises(DatasetError, match=r"broken\.npz: .*" + message):
        load_features(path)


@pytest.mark.parametrize("scale", [1e-300, 1e-25, 1.0, 1e20, 1e60])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_of_any_length(tmp_path, scale, dtype):
    rows = np.array([[3.0, 4.0], [0.0, -2.0], [1.0, 1e-4]])
    if not 1e-30 < scale < 1e30 and dtype is np.float32:
        return
    path = save(
        tmp_path / "any.npz",
        vectors=(rows * scale).astype(dtype),
        pids=np.arange(3),
        camids=np.zeros(3, dtype=int),
    )
    found = load_features(path)[0].vectors[:, 0]
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, -1], [1, 1e-4]], rtol=1e-6)


def test_files_of_our_own_need_only_labels(tmp_path):
    """What `resolute embed` writes besides is passed over; one text per image is one text."""
    extra = {"keys": np.array(list("abcdef")), "norms": np.ones((6, 1)), "reliability": np.ones(6)}
    path = save(tmp_path / "q.npz", **extra, fingerprint=np.array(["abc"] * 6))
    assert load_features(path)[0].fingerprint == "abc"
    with pytest.raises(DatasetError) as failure:
        load_features(save(tmp_path / "q.npz", kyes=extra["keys"]))
    assert "not readable" not in str(failure.value), "it was read; a key is wrong"


def test_vectors_left_as_they_are_have_to_fit(tmp_path):
    path = save(tmp_path / "large.npz", vectors=np.full((6, 4), 1e60))
    with pytest.raises(DatasetError, match="vectors: some values are too large for float32"):
        load_features(path, normalise=False)


def test_no_array_is_unpacked_before_the_keys_are_known(tmp_path, monkeypatch):
    path = save(tmp_path / "junk.npz", junk=np.zeros(10))
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(DatasetError, match="unknown key 'junk'"):
        load_features(path)


def test_a_header_that_declares_more_than_there_is(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 10**3)}
    )
    with zipfile.ZipFile(tmp_path / "vast.npz", "w") as archive:
        archive.writestr("vectors.npy", header.getvalue())
    with pytest.raises(DatasetError, match=r"vast\.npz: not readable as \.npz of plain numbers"):
        load_features(tmp_path / "vast.npz")


def test_pickled_arrays_are_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (sys.exit, ("executed",))

    path = tmp_path / "trap.npz"
    np.savez(path, **PLAIN, rates=np.array([Trap()] * 6, dtype=object))
    with pytest.raises(DatasetError, match=r"trap\.npz: not readable as \.npz of plain numbers"):
        load_features(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        load_features(tmp_path / "absent.npz")
    text = tmp_path / "text.npz"
    text.write_text("hello")
    empty = tmp_path / "empty.npz"
    empty.touch()
    for path in (text, empty):
        with pytest.raises(DatasetError, match=r"not readable as .npz"):
            load_features(path)
    whole = save(tmp_path / "whole.npz").read_bytes()
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"not readable as .npz"):
        load_features(cut)
    single = tmp_path / "single.npy"
    np.save(single, PLAIN["vectors"])
    with pytest.raises(DatasetError, match=r"expected .npz with named arrays, got one .npy"):
        load_features(single)


def test_every_damaged_byte_is_refused_or_harmless(tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", **PLAIN)
    whole = (tmp_path / "whole.npz").read_bytes()
    damaged = tmp_path / "damaged.npz"
    refused = 0
    for position in range(0, len(whole), 2):
        data = bytearray(whole)
        data[position] ^= 0x55
        damaged.write_bytes(data)
        try:
            load_features(damaged)
        except DatasetError:
            refused += 1
    assert refused > len(whole) / 4


def layumi(**changes):
    arrays = {
        "gallery_f": PLAIN["vectors"],
        "gallery_label": PLAIN["pids"],  # scipy saves vectors as (1, N)
        "gallery_cam": PLAIN["camids"],
        "query_f": PLAIN["vectors"][:3],
        "query_label": PLAIN["pids"][:3],
        "query_cam": PLAIN["camids"][:3] + 5,
        "mquery_f": np.zeros((1, 4)),
        **changes,
    }
    return {key: value for key, value in arrays.items() if value is not None}


def test_layumi_file_gives_both_sides(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "pytorch_result.mat"
    scipy_io.savemat(path, layumi())
    (query, query_labels), (gallery, gallery_labels) = load_layumi(path)
    assert query.vectors.shape == (3, 1, 4)
    assert gallery.vectors.shape == (6, 1, 4)
    assert query_labels.pids.tolist() == [1, 1, 2]
    assert query_labels.camids.tolist() == [5, 6, 5]
    assert gallery_labels.pids.tolist() == PLAIN["pids"].tolist()
    both = load_query_gallery(path)
    np.testing.assert_array_equal(both[1][0].vectors, gallery.vectors)
    report = evaluate(
        PROTOCOLS["market"],
        (query, gallery),
        query_labels,
        gallery_labels,
        streams=Streams(0),
    )
    assert report.cmc[0] == 1


def test_broken_layumi_files(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "pytorch_result.mat"
    with pytest.raises(DatasetError, match="no such file"):
        load_layumi(path)
    for content in (b"", b"not a matrix" * 50):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="not readable as MATLAB 5"):
            load_layumi(path)
    scipy_io.savemat(path, layumi(query_cam=None, query_label=None))
    with pytest.raises(DatasetError, match="query_label, query_cam missing, got gallery_f"):
        load_layumi(path)
    scipy_io.savemat(path, layumi(gallery_label=PLAIN["pids"][:4]))
    with pytest.raises(DatasetError, match=r"gallery_label: expected numbers of shape \(6,\)"):
        load_layumi(path)


def test_missing_scipy_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DatasetError, match=r'pip install "resolute-reid\[mat\]"'):
        load_layumi(tmp_path / "x.mat")


def test_two_files_are_query_and_gallery(tmp_path):
    paths = save(tmp_path / "q.npz"), save(tmp_path / "g.npz", vectors=RNG.normal(size=(6, 4)))
    query, gallery = load_query_gallery(*paths)
    np.testing.assert_array_equal(query[0].vectors, load_features(paths[0])[0].vectors)
    np.testing.assert_array_equal(gallery[0].vectors, load_features(paths[1])[0].vectors)
    other = save(tmp_path / "other.npz", vectors=RNG.normal(size=(6, 5)))
    with pytest.raises(DatasetError, match=r"\(S, D\) = \(1, 4\), gallery vectors \(1, 5\)"):
        load_query_gallery(paths[0], other)


def test_wrong_number_of_files(tmp_path):
    for paths in ((), (tmp_path / "q.npz",), (tmp_path / "a.npz",) * 3):
        with pytest.raises(ConfigError, match=r"expected two .npz files"):
            load_query_gallery(*paths)
