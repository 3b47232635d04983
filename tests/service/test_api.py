"""The API as a client meets it: what it answers, what it refuses, what it never says."""

import asyncio
import contextlib
import io
import json
import logging
import math
import re
import socket
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
from inference.small import noise, person, save_small
from PIL import Image
from service.serving import (
    START,
    Served,
    code,
    drawn,
    encoded,
    fill,
    images,
    small_model,
)
from waiting import wait_until

from resolute.core.distance import distance_matrix
from resolute.core.errors import GalleryError
from resolute.inference.load import load
from resolute.inference.one_vector import one_vector
from resolute.inference.pooling import pool
from resolute.retrieval.embedded import EmbeddedEngine
from resolute.retrieval.gallery import Gallery
from resolute.service.app import build_app
from resolute.service.audit import AuditLog
from resolute.service.config import ServeConfig
from resolute.service.desk import Desk, audit_folder_of
from resolute.service.events import JsonLines
from resolute.service.guard import OPEN_ROUTES
from resolute.service.retention import keep_house
from resolute.service.token import Token

SECRET = "a-secret-of-some-length"


def search(client, *contents, **data):
    return client.post("/v1/search", files=images(*contents), data=data)


def test_embed_is_what_the_model_says(served, model):
    reply = served.post("/v1/embed", files=images(drawn(1), drawn(2))).json()
    expected = model.embed([person(1), person(2)])
    assert reply["fingerprint"] == model.fingerprint
    for i, image in enumerate(reply["images"]):
        np.testing.assert_allclose(image["streams"], expected.vectors[i], atol=1e-5)
        np.testing.assert_allclose(image["fused"], one_vector(expected)[i], atol=1e-5)
        np.testing.assert_allclose(image["quality"], expected.quality[i], atol=1e-5)
        assert image["native_size"] == list(expected.native_sizes[i])


def test_search_ranks_as_the_definition_does(served, model):
    """Three images of one person pool; every number of every hit by another way."""
    query = [person(2, 1, i) for i in range(3)]
    reply = search(served, *map(encoded, query), k="5").json()
    gallery = Gallery.open(served.desk.folder)
    keys = list(gallery.keys())
    distances = distance_matrix(pool(model.embed(query)), gallery.embedding(keys))[0]
    order = np.argsort(distances, kind="stable")[:5]
    assert [hit["key"] for hit in reply["hits"]] == [keys[i] for i in order]
    np.testing.assert_allclose([h["distance"] for h in reply["hits"]], distances[order], atol=1e-5)
    for rank, hit in enumerate(reply["hits"], start=1):
        assert hit["rank"] == rank
        a, b = hit["hr_share"], 1 - hit["hr_share"]
        near = a * hit["stream_distances"][0] + b * hit["stream_distances"][1]
        assert math.isclose(hit["distance"], near, rel_tol=1e-6)
        assert hit["probability"] is None
    assert reply["exact"]
    assert reply["num_compared"] == 12
    assert reply["num_query_images"] == 3


def test_probability_is_the_calibrations(tmp_path):
    model = small_model(tmp_path, is_calibrated=True)
    with Served(fill(tmp_path / "gallery", model), model) as client:
        reply = search(client, drawn(1), prior="0.5").json()
        hit = reply["hits"][-1]
        odds = math.exp(np.clip(6 - 12 * hit["distance"], -5, 5))
        assert math.isclose(hit["probability"], odds / (1 + odds), rel_tol=1e-6)
        assert reply["prior"] == 0.5
        assert reply["calibrated_on"] == "drawn people"
        assert code(search(client, drawn(1), prior="1")) == (422, "bad_value")
        sides = images(drawn(1), field="a") + images(drawn(1, 1), drawn(1, 1, 1), field="b")
        found = client.post("/v1/compare", files=sides, data={"prior": "0.5"}).json()
        assert found["b"]["num_images"] == 2
        assert 0 < found["probability"] < 1


def test_conditions_and_a_query_of_the_gallery(served):
    reply = served.post(
        "/v1/search", data={"key": ["cam0/0001.png"], "k": "50", "not_camera": "cam0"}
    ).json()
    assert {hit["camera"] for hit in reply["hits"]} == {"cam1"}
    everyone = served.post("/v1/search", data={"key": ["cam0/0001.png"], "k": "50"}).json()["hits"]
    assert len(everyone) == 11  # all but itself
    window = {"start": str(START + 3600), "end": "2025-10-09T11:53:20+00:00"}
    found = search(served, drawn(1), **window).json()["hits"]
    assert {hit["time"] for hit in found} == {START + 3600, START + 7200}
    assert search(served, drawn(1), min_reliability="0.1").json()["hits"] == []
    assert code(search(served, drawn(1), key="cam0/0001.png")) == (422, "bad_value")
    assert code(served.post("/v1/search", data={"key": "nobody"})) == (404, "not_found")
    assert code(served.post("/v1/search", data={"k": "3"})) == (422, "bad_value")


@pytest.mark.parametrize(
    "data",
    [{"k": "0"}, {"k": "201"}, {"k": "x"}, {"start": "soon"}, {"end": "nan"},
     {"min_reliability": "2"}, {"resolution": "medium"}, {"start": "2026"},
     {"end": "1767225600000"}, {"start": "2026-01-02", "end": "20260101"}],
)  # fmt: skip
def test_bad_values_are_named(served, data):
    response = search(served, drawn(1), **data)
    assert code(response) == (422, "bad_value")
    assert next(iter(data)) in response.json()["error"]["message"].replace(" ", "_")


def test_fields_that_a_route_does_not_take_are_refused(served):
    """Were they passed over, a filter would vanish and a purge not happen."""
    image, key = images(drawn(1)), {"key": "cam0/0001.png"}
    keys = {"keys": [key["key"]]}

    def post(path, words, **request):
        response = served.post(f"/v1/{path}", **request)
        assert code(response) == (422, "bad_value")
        assert response.json()["error"]["message"].startswith(words)

    near = "unknown field 'not-camera': did you mean 'not_camera'?"
    post("search", near, files=image, data={"not-camera": "cam1"})
    post("search", near, data={**key, "not-camera": "cam1"})
    post("search", near, files=image, params={"not-camera": "cam1"})
    choose = "unknown field 'from': choose one of image, key, k, camera, not_camera, start, end"
    post("search", choose, files=image, data={"from": "2030-01-01"})
    post("search", "k: expected in the form, got in the URL", files=image, params={"k": 1})
    post("search", "unknown field 'Camera': did you mean 'camera'?", data={**key, "Camera": "c"})
    cam = "unknown field 'cam': did you mean 'camera'?"
    post("add", cam, files=image, data={"key": "new", "cam": "c7"})
    post(
        "embed", "unknown field 'images': did you mean 'image'?", files=images(b"", field="images")
    )
    sides = images(drawn(1), field="a") + images(drawn(1), field="b")
    post("compare", "unknown field 'c'", files=[*sides, *images(drawn(1), field="c")])
    purged = "unknown field 'purged': did you mean 'purge'?"
    post("delete", purged, json={**keys, "purged": True})
    post("delete", "purge: expected in the JSON, got in the URL", json=keys, params={"purge": 1})
    post("delete", "unknown field '" + "x" * 64 + "'", json={**keys, "x" * 10**5: 1})
    assert len(served.desk.gallery) == 12
    for path, name, words in [
        ("images", "cameras", "did you mean 'camera'?"),
        ("thumbnail", "keys", "did you mean 'key'?"),
        ("audit", "limits", "did you mean 'limit'?"),
        ("gallery", "camera", "this request takes no fields"),
    ]:
        response = served.get(f"/v1/{path}", params={name: "x"})
        assert code(response) == (422, "bad_value")
        assert response.json()["error"]["message"] == f"unknown field '{name}': {words}"
    response = served.request("GET", "/v1/images", data={"camera": "cam1"})
    assert code(response) == (422, "bad_value")
    assert "in the URL, got a body" in response.json()["error"]["message"]


def test_a_field_of_one_value_comes_once(served):
    image, twice = images(drawn(1)), images(drawn(1), drawn(2))
    json_twice = b'{"keys": ["cam0/0001.png"], "purge": true, "purge": false}'
    kind = {"Content-Type": "application/json"}
    for response, words in [
        (served.post("/v1/add", files=twice, data={"key": "new"}), "image: expected one value"),
        (search(served, drawn(1), k=["1", "2"]), "k: expected one value"),
        (served.post("/v1/search?k=1", files=image), "k: expected in the form"),
        (served.get("/v1/images?start=1&start=2"), "start: expected one value"),
        (served.get("/v1/thumbnail?key=a&key=b"), "key: expected one value"),
        (served.post("/v1/delete", content=json_twice, headers=kind), "expected each name"),
    ]:
        assert code(response) == (422, "bad_value")
        assert response.json()["error"]["message"].startswith(words)
    assert len(served.desk.gallery) == 12
    both = {"camera": ["cam0", "cam1"]}
    assert search(served, drawn(1), drawn(1, 1), **both).json()["num_compared"] == 12
    assert search(served, drawn(1), not_camera=["cam0", "cam1"]).json()["hits"] == []
    assert len(served.get("/v1/images", params=both).json()["images"]) == 12
    data = {"key": ["cam0/0001.png", "cam1/0001.png"]}
    assert served.post("/v1/search", data=data).json()["num_query_images"] == 2
    sides = [*images(drawn(1), drawn(1, 1), field="a"), *images(drawn(2), field="b")]
    assert served.post("/v1/compare", files=sides).json()["a"]["num_images"] == 2


def test_slips_with_curl_are_answered_in_words_of_our_own(served):
    def post(path, **request):
        response = served.post(f"/v1/{path}", **request)
        assert not re.search("input|instance|class|pydantic|decode", response.text)
        return code(response), response.json()["error"]["message"]

    bad = (422, "bad_value")
    file = "expected a file, got text; with curl write -F {0}=@query.png"
    for path in ("search", "embed"):
        told = post(path, data={"image": "query.png"})
        assert told == (bad, "image: " + file.format("image"))
    one = {"image": "query.png", "key": "new"}
    assert post("add", data=one) == (bad, "image: " + file.format("image"))
    text = "key: expected text, got a file; with curl write -F key=TEXT, without @"
    assert post("search", files=images(drawn(1), field="key")) == (bad, text)
    refused, message = post("delete", data={"keys": "cam0/0001.png"})
    assert refused == (415, "unsupported_type")
    assert "-H 'Content-Type: application/json'" in message
    kind = {"Content-Type": "application/json"}
    wanted = "expected a JSON object with keys, purge, got "
    for content, words in [
        (b"{bad", "text that goes wrong at character 2; names and texts stand in double quotes"),
        (b'{"keys": ["a"', "text that goes wrong at character 14;"),
        (b"", "nothing"),
        (b'["cam0/0001.png"]', "no object; it stands in curly brackets"),
        (b"\xff\xfe\xfd", "what cannot be read as JSON"),
        (b"[" * 10**6, "what cannot be read as JSON"),
    ]:
        refused, message = post("delete", content=content, headers=kind)
        assert refused == bad
        assert message.startswith(wanted + words)
    late = {"key": "late", "time": "2099-01-01"}
    refused, message = post("add", files=images(drawn(1)), data=late)
    assert refused == bad
    assert "got '2099-01-01', which lies in the future" in message
    assert len(served.desk.gallery) == 12


def test_a_damaged_form_is_refused_in_words(served):
    nameless = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--"
    for kind, content in [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"no form"),
        ("multipart/form-data; boundary=x", nameless),
    ]:
        response = served.post("/v1/search", content=content, headers={"Content-Type": kind})
        assert code(response) == (400, "bad_request")
        assert response.json()["error"]["message"].startswith("form: ")


def test_bad_images_are_refused_in_words(tmp_path, model):
    whole = encoded(noise(60, 30))
    with Served(fill(tmp_path / "gallery", model), model, max_pixels=50_000) as client:
        for content, words in [
            (b"", "empty"),
            (b"GIF89a no", "expected a JPEG"),
            (whole[: len(whole) // 2], "truncated or damaged"),
            (encoded(np.zeros((9000, 4, 3), np.uint8)), "9000x4"),
            (encoded(np.zeros((300, 200, 3), np.uint8)), "300x200"),
        ]:
            response = search(client, content)
            assert code(response) == (422, "bad_image")
            message = response.json()["error"]["message"]
            assert words in message
            assert "name that must not" not in message
        # Together they are too many pixels, each alone is not.
        half = encoded(np.zeros((200, 200, 3), np.uint8))
        assert client.post("/v1/embed", files=images(half)).status_code == 200
        assert code(client.post("/v1/embed", files=images(half, half))) == (422, "bad_image")


def test_size_and_type_are_limited_while_reading(tmp_path, model):
    folder = fill(tmp_path / "gallery", model)
    with Served(folder, model, max_upload_mb=0.1, max_images=2, body_timeout_s=0.3) as client:
        large = encoded(noise(300, 200))
        assert code(search(client, large)) == (413, "too_large")

        def endless():  # no length is told, and it never ends
            yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            while True:
                yield b"0" * 10_000

        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        try:
            refused = client.post("/v1/search", content=endless(), headers=kind)
            assert code(refused) == (413, "too_large")
        except httpx.TransportError:
            pass  # closed while it was still sent
        assert code(search(client, *[drawn(1)] * 3)) == (400, "bad_request")
        for body in ("text/plain", "image/png", ""):
            refused = client.post("/v1/search", content=b"x", headers={"Content-Type": body})
            assert code(refused) == (415, "unsupported_type")
        refused = client.post("/v1/search", json={"key": "cam0/0001.png"})
        assert code(refused) == (415, "unsupported_type")
        with socket.create_connection(httpx.URL(client.url).netloc.decode().split(":")) as slow:
            slow.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            )
            assert b"408" in slow.recv(100)


def test_add_find_delete_and_what_is_kept(served):
    exif = Image.Exif()
    exif[0x010E] = "SECRET-PLACE"  # image description
    jpeg = encoded(person(9), kind="JPEG", exif=exif, comment=b"SECRET-PLACE")
    data = {"key": "door/9", "camera": "door", "time": "2026-01-02T03:04:05Z"}
    added = served.post("/v1/add", files=images(jpeg), data=data)
    assert added.status_code == 201
    assert code(served.post("/v1/add", files=images(jpeg), data=data)) == (409, "exists")
    first = search(served, jpeg, camera="door").json()["hits"][0]
    assert (first["key"], first["time"]) == ("door/9", 1767323045.0)
    picture = served.get("/" + first["thumbnail"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert b"SECRET" not in picture.content
    assert Image.open(io.BytesIO(picture.content)).height <= 160
    gone = served.post("/v1/delete", json={"keys": ["door/9"], "purge": True}).json()
    assert gone == {"num_deleted": 1, "num_purged": 1}
    assert code(served.post("/v1/delete", json={"keys": ["door/9"]})) == (404, "not_found")
    assert code(served.post("/v1/delete", json={"keys": []})) == (422, "bad_value")
    assert code(served.get("/v1/thumbnail", params={"key": "door/9"})) == (404, "not_found")
    for bad in ("", "a\nb", "x" * 1025):
        response = served.post("/v1/add", files=images(jpeg), data={"key": bad})
        assert code(response) == (422, "bad_value")
    for bad in ("2026", "20991127", "2099-11-27T10:00Z", "1767225600000"):
        response = served.post("/v1/add", files=images(jpeg), data={"key": "late", "time": bad})
        assert code(response) == (422, "bad_value")
        assert response.json()["error"]["message"].startswith("time: expected ")
    day = {"key": "day", "time": "20260102"}
    assert served.post("/v1/add", files=images(jpeg), data=day).status_code == 201
    assert served.desk.gallery.entry("day").time == 1767312000.0
    bare = {"key": "door/10", "thumbnail": "false"}
    assert served.post("/v1/add", files=images(jpeg), data=bare).status_code == 201
    assert code(served.get("/v1/thumbnail?key=door/10")) == (404, "not_found")


def test_keys_are_never_paths(served, tmp_path):
    secret = tmp_path / "gallery" / "manifest.json"
    keys = ["../gallery.audit/lock", "/etc/passwd", "..%2f..%2fetc/passwd", "a\0b", str(secret)]
    for key in keys:
        assert code(served.get("/v1/thumbnail", params={"key": key})) == (404, "not_found")
    for path in ("/../page.py", "/page/../app.py", "/v1/thumbnail/../../etc/passwd", "/docs"):
        assert code(served.get(path)) == (404, "not_found")
    data = {"key": "../../up.png"}  # a name like any other
    assert served.post("/v1/add", files=images(drawn(1)), data=data).status_code == 201
    assert served.get("/v1/thumbnail", params=data).status_code == 200
    assert not list(tmp_path.rglob("up*"))


def test_the_gallery_page_by_page(served):
    first = served.get("/v1/images", params={"limit": 5}).json()
    second = served.get("/v1/images", params={"limit": 50, "start": first["next"]}).json()
    keys = [image["key"] for image in first["images"] + second["images"]]
    assert keys == list(served.desk.gallery.keys())
    assert second["next"] is None
    only = served.get("/v1/images", params={"camera": "cam1"}).json()["images"]
    assert len(only) == 6
    assert code(served.get("/v1/images", params={"limit": 0})) == (422, "bad_value")
    assert served.get("/v1/gallery").json()["cameras"] == {"cam0": 6, "cam1": 6}


def test_a_token_opens_and_nothing_else_does(tmp_path, model):
    token = Token.of(f"desk:{SECRET}", where="test")
    with Served(fill(tmp_path / "gallery", model), model, token=token) as client:
        for path in ("/", "/page.js", "/page.css", "/healthz", "/readyz", "/openapi.json"):
            assert client.get(path).status_code == 200
        for header in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Basic {SECRET}"},
                       {"Authorization": f"Bearer {SECRET[:-1]}"}):  # fmt: skip
            for path in ("/v1/gallery", "/metrics", "/v1/audit", "/nothing"):
                assert code(client.get(path, headers=header)) == (401, "unauthorized")
        client.headers["Authorization"] = f"Bearer {SECRET}"
        assert client.get("/v1/gallery").status_code == 200
        search(client, drawn(1))
        assert client.get("/v1/audit").json()["events"][-1]["who"] == "desk"
        assert "bearer" in client.get("/openapi.json").text


def test_an_open_route_takes_no_body_without_a_token(tmp_path, model):
    token = Token.of(f"desk:{SECRET}", where="test")
    with Served(fill(tmp_path / "gallery", model), model, token=token) as client:
        address = httpx.URL(client.url).netloc.decode().split(":")
        for path in OPEN_ROUTES:
            with socket.create_connection(address, timeout=10) as stranger:
                stranger.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n"
                    "Content-Type: application/json\r\n\r\n".encode()
                )
                assert b" 401 " in stranger.recv(100)
        assert client.head("/").status_code == 200


def test_no_part_of_an_upload_is_written_to_a_file(served, monkeypatch):
    def rollover(file):
        raise AssertionError("written to a temporary file")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", rollover)
    large = encoded(noise(1100, 700))
    assert len(large) > 2 * 2**20
    assert search(served, large).status_code == 200


def test_half_a_character_is_no_key_and_no_camera(served):
    halves = b'{"keys": ["cam0/0001.png", "\\ud800"]}'
    kind = {"Content-Type": "application/json"}
    refused = served.post("/v1/delete", content=halves, headers=kind)
    assert code(refused) == (404, "not_found")
    assert "1 of 2 keys" in refused.json()["error"]["message"]
    assert len(served.desk.gallery) == 12
    # A form may name an encoding that can spell it.
    kind = {"Content-Type": "multipart/form-data; boundary=x; charset=unicode_escape"}

    def ask(path, **fields):
        parts = [
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
            for name, text in fields.items()
        ]
        parts.append(
            '--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            if path == "/v1/add" else ""
        )  # fmt: skip
        end = b"\r\n--x--\r\n"
        content = "".join(parts).encode() + (drawn(1) + end if parts[-1] else end[2:])
        return code(served.post(path, content=content, headers=kind))

    assert ask("/v1/search", key="\\ud800") == (404, "not_found")
    for name in ("camera", "not_camera"):
        asked = {"key": "cam0/0001.png", name: "\\ud800"}
        assert ask("/v1/search", **asked) == (422, "bad_value")
    assert ask("/v1/add", key="\\ud800") == (422, "bad_value")
    assert ask("/v1/add", key="new", camera="\\ud800") == (422, "bad_value")
    assert code(served.get("/v1/thumbnail?key=%ED%A0%80")) == (404, "not_found")


def test_other_sites_and_other_names_are_refused(served):
    def ask(**headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return served.post("/v1/search", data={"key": "cam0/0001.png"}, headers=names)

    own = served.url
    assert ask().status_code == 200
    assert ask(origin=own, sec_fetch_site="same-origin").status_code == 200
    assert code(ask(origin="https://evil.example")) == (403, "foreign_origin")
    assert code(ask(origin="null")) == (403, "foreign_origin")
    assert code(ask(origin=own, sec_fetch_site="cross-site")) == (403, "foreign_origin")
    assert code(ask(sec_fetch_site="same-site")) == (403, "foreign_origin")
    for host in ("evil.example", "127.0.0.1.evil.example:80", "", "[::2]:80"):
        assert code(served.get("/v1/gallery", headers={"Host": host})) == (421, "unknown_host")
    assert served.get("/v1/gallery", headers={"Host": "LOCALHOST:1"}).status_code == 200


def test_headers_keep_a_browser_inside(served):
    for path in ("/", "/v1/gallery", "/nothing"):
        headers = served.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers or "uvicorn" in headers["server"]


def test_rate_is_limited_per_client(tmp_path, model):
    with Served(fill(tmp_path / "gallery", model), model, rate=3) as client:
        data = {"key": "cam0/0001.png"}
        codes = [client.post("/v1/search", data=data).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        refused = client.post("/v1/search", data=data)
        assert code(refused) == (429, "rate_limited")
        assert 0 < int(refused.headers["retry-after"]) <= 20
        assert client.get("/healthz").status_code == 200


def test_read_only_neither_adds_nor_deletes_but_sees_others(tmp_path, model):
    folder = fill(tmp_path / "gallery", model)
    with Served(folder, model, read_only=True) as client:
        add = client.post("/v1/add", files=images(drawn(9)), data={"key": "x"})
        assert code(add) == (403, "read_only")
        assert code(client.post("/v1/delete", json={"keys": ["cam0/0001.png"]})) == (
            403, "read_only",
        )  # fmt: skip
        with Gallery.open(folder) as writer:  # not locked by the server
            writer.delete(["cam0/0001.png"])
        keep_house(client.desk)
        assert client.get("/v1/gallery").json()["num_images"] == 11


def test_a_reader_beside_a_writer_forgets_what_that_one_purged(tmp_path, model, caplog):
    folder = fill(tmp_path / "gallery", model, retention_days=30, start=time.time() - 3 * 86_400)
    reading = {"read_only": True, "audit_folder": tmp_path / "reader.audit"}
    with Served(folder, model) as writer, Served(folder, model, **reading) as reader:
        key = {"key": "cam0/0001.png"}
        assert reader.get("/v1/thumbnail", params=key).status_code == 200
        writer.post("/v1/delete", json={"keys": [key["key"]], "purge": True})
        reader.desk.audit.write("search", who="test", now=time.time() - 200 * 86_400)
        keep_house(reader.desk)
        assert reader.get("/v1/gallery").json()["num_images"] == 11
        assert code(reader.get("/v1/thumbnail", params=key)) == (404, "not_found")
        assert code(reader.post("/v1/search", data=key)) == (404, "not_found")
        (event,) = reader.get("/v1/audit").json()["events"]
        assert event["action"] == "erase-audit"
    assert "retention left to the writer" in caplog.text
    assert "not enforced" not in caplog.text


def test_a_reader_alone_enforces_retention(tmp_path, model):
    folder = fill(tmp_path / "gallery", model, retention_days=30, start=time.time() - 31 * 86_400)
    with Served(folder, model, read_only=True) as client:
        assert client.get("/v1/gallery").json()["num_images"] == 0
        with Gallery.open(folder) as writer:
            writer.lock()  # it was given back


def test_a_reader_says_where_it_cannot_enforce_retention(tmp_path, model, monkeypatch, caplog):
    def refuse(engine):
        raise GalleryError("their files could not be removed")

    folder = fill(tmp_path / "gallery", model, retention_days=30, start=time.time())
    with Served(folder, model, read_only=True) as client:
        client.desk.audit.write("search", who="test", now=time.time() - 200 * 86_400)
        monkeypatch.setattr(EmbeddedEngine, "_sweep", refuse)
        keep_house(client.desk)
        # The audit log is kept all the same.
        (event,) = client.get("/v1/audit").json()["events"]
        assert event["action"] == "erase-audit"
    assert "retention not enforced: their files could not be removed" in caplog.text
    assert "left to the writer" not in caplog.text


@pytest.mark.parametrize("error", [OSError("a disk that went away"), RuntimeError("a bug")])
def test_a_round_that_fails_is_not_the_last(tmp_path, model, monkeypatch, caplog, error):
    desk = Desk(fill(tmp_path / "gallery", model), model, config=ServeConfig())
    app = build_app(desk, keep_house_s=0.01)
    rounds = []

    def expire(days):
        rounds.append(days)
        if len(rounds) == 2:
            raise error
        return 0

    monkeypatch.setattr(desk.audit, "expire", expire)

    async def live():
        inbox, outbox = asyncio.Queue(), asyncio.Queue()
        running = asyncio.create_task(app({"type": "lifespan"}, inbox.get, outbox.put))
        await inbox.put({"type": "lifespan.startup"})
        assert (await outbox.get())["type"] == "lifespan.startup.complete"
        async with asyncio.timeout(10):
            while len(rounds) < 3:
                await asyncio.sleep(0.01)
        await inbox.put({"type": "lifespan.shutdown"})
        assert (await outbox.get())["type"] == "lifespan.shutdown.complete"
        await running

    asyncio.run(live())
    failed = [record for record in caplog.records if "not enforced" in record.getMessage()]
    assert [record.levelname for record in failed] == ["ERROR"]
    with Gallery.open(tmp_path / "gallery") as writer:
        writer.lock()  # closed with the server
    AuditLog(audit_folder_of(tmp_path / "gallery")).close()


def test_another_model_is_refused_at_the_start(tmp_path, model):
    folder = fill(tmp_path / "gallery", model)
    with pytest.raises(GalleryError, match="their vectors cannot be compared"):
        Served(folder, small_model(tmp_path, seed=1))
    with Gallery.open(folder) as writer:
        writer.lock()
        with pytest.raises(GalleryError):
            Served(folder, model)


def test_a_calibration_of_before_is_told_at_the_start_and_in_a_comparison(tmp_path, caplog):
    fitted = small_model(tmp_path, is_calibrated=True).calibration
    share = {"fusion": "constant", "constant": 0.25}
    model = load(save_small(tmp_path / "constant"), overrides=share)
    calibration = replace(fitted, fusion="constant", fingerprint=model.fingerprint)
    model = replace(model, calibration=calibration)
    with Served(fill(tmp_path / "gallery", model), model) as client:
        reply = client.post(
            "/v1/compare", files=[*images(drawn(1), field="a"), *images(drawn(2), field="b")]
        ).json()
    assert reply["probability"] is None
    again = "no probability: calibrated for constant sq.*: resolute calibrate RUN"
    assert re.match(again, reply["warnings"][0])
    assert len(re.findall(again, caplog.text)) == 1


def test_retention_is_enforced_before_the_first_request(tmp_path, model):
    folder = fill(tmp_path / "gallery", model, retention_days=30, start=time.time() - 31 * 86_400)
    with Served(folder, model) as client:
        # 31 days less 0 to 11 hours: all are older than 30.
        assert client.get("/v1/gallery").json()["num_images"] == 0
        (event,) = client.get("/v1/audit").json()["events"]
        assert (event["action"], event["num_expired"]) == ("expire", 12)
        assert search(client, drawn(1)).json()["hits"] == []


def test_a_connection_that_never_sends_a_head_is_closed(tmp_path, model):
    with Served(fill(tmp_path / "g", model), model, body_timeout_s=0.5) as client:
        address = (client.base_url.host, client.base_url.port)
        began = b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        asked = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        for sent in (b"", began, asked + began):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(sent)
                with contextlib.suppress(ConnectionError):
                    while connection.recv(4096):  # until the server ends it
                        pass
        assert client.get("/healthz").status_code == 200


def test_one_address_has_its_share_of_connections(tmp_path, model, monkeypatch):
    monkeypatch.setattr("resolute.service.server._OWN", ())
    monkeypatch.setattr("resolute.service.server._MOST_OF_ONE", 3)
    with Served(fill(tmp_path / "g", model), model) as client:
        address = (client.base_url.host, client.base_url.port)
        opened = [socket.create_connection(address, timeout=10) for _ in range(3)]
        with (
            socket.create_connection(address, timeout=10) as beyond,
            contextlib.suppress(ConnectionError),
        ):
            assert beyond.recv(1) == b""
        for connection in opened:
            connection.close()
        wait_until(lambda: _answers(client))


def _answers(client):
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_very_many_keys_are_not_deleted_at_once(served):
    keys = [f"cam0/{number:04d}.png" for number in range(1001)]
    assert code(served.post("/v1/delete", json={"keys": keys})) == (422, "bad_value")
    once = served.post("/v1/delete", json={"keys": ["cam0/0001.png"] * 5000})
    assert (once.status_code, once.json()["num_deleted"]) == (200, 1)


def test_deleted_bytes_go_at_the_next_round(served, tmp_path):
    key = "cam0/0001.png"
    served.post("/v1/delete", json={"keys": [key]})
    assert served.get("/v1/gallery").json()["num_deleted"] == 1
    keep_house(served.desk)
    assert served.get("/v1/gallery").json()["num_deleted"] == 0
    files = [p for p in (tmp_path / "gallery").rglob("*") if p.is_file()]
    assert not any(key.encode() in path.read_bytes() for path in files)


def test_everything_is_written_down_without_pixels_or_keys(served, tmp_path):
    hit = search(served, drawn(1), camera="cam0", k="2").json()["hits"][0]
    served.post("/v1/add", files=images(drawn(8)), data={"key": "jane-doe"})
    served.post("/v1/delete", json={"keys": ["jane-doe"]})
    reply = served.get("/v1/audit").json()
    assert [event["action"] for event in reply["events"]] == ["search", "add", "delete"]
    searched, added, deleted = reply["events"]
    assert searched["found"][0] == hit["id"]
    assert searched["where"] == {"camera": ["cam0"]}
    assert searched["gallery"] == served.desk.model.fingerprint
    assert added["added"] == deleted["deleted"]
    assert reply["num_events"] == 3
    assert served.desk.audit.verify().digest == reply["head"]
    text = b"".join(p.read_bytes() for p in audit_folder_of(tmp_path / "gallery").iterdir())
    assert b"jane" not in text
    assert b"0001.png" not in text


def test_metrics_and_logs(served, caplog):
    with caplog.at_level(logging.INFO):
        search(served, drawn(1))
        served.get("/v1/thumbnail?key=jane-doe")
        served.get("/secret-path")
    text = served.get("/metrics").text
    assert 'resolute_requests_total{code="200",route="/v1/search"} 1.0' in text
    assert 'resolute_requests_total{code="404",route="other"} 1.0' in text
    assert "resolute_gallery_images 12.0" in text
    assert "resolute_embedded_images_total 1.0" in text
    assert "resolute_queue_images 0.0" in text
    own = [record for record in caplog.records if record.name.startswith("resolute")]
    lines = [JsonLines().format(record) for record in own]
    logged = [json.loads(line) for line in lines]
    asked = [line for line in logged if line["event"] == "request"]
    assert [line["status"] for line in asked] == [200, 404, 404]
    assert not any(word in line for line in lines for word in ("jane", "secret", "cam0", "?"))


def test_a_bug_shows_no_traceback(served, monkeypatch, caplog):
    def broken(*args, **more):
        raise RuntimeError("/srv/inner/secret")

    monkeypatch.setattr(served.desk.gallery, "entries", broken)
    with caplog.at_level(logging.INFO):
        response = served.get("/v1/images")
        assert code(response) == (500, "internal")
        assert "secret" not in response.text
        # The server logs it after it answered.
        failed = wait_until(lambda: [r for r in caplog.records if r.exc_info])
    line = json.loads(JsonLines().format(failed[0]))
    assert line["error"] == "RuntimeError"
    assert line["at"][-1].endswith("broken")
    assert "secret" not in str(line)


def test_openapi_describes_every_route(served):
    document = served.get("/openapi.json").json()
    routes = {"embed", "compare", "search", "add", "delete", "images", "thumbnail", "gallery",
              "audit"}  # fmt: skip
    assert {p.removeprefix("/v1/") for p in document["paths"] if p.startswith("/v1/")} == routes
    schemas = document["components"]["schemas"]
    assert schemas["SearchReply"]["example"]["hits"][0]["rank"] == 1
    for name, schema in schemas.items():
        if name.endswith(("Reply", "Request")):
            assert all("description" in field for field in schema["properties"].values()), name
    assert schemas["DeleteRequest"]["additionalProperties"] is False
    search_form = schemas["Body_search_v1_search_post"]["properties"]
    assert {"image", "key", "k", "not_camera"} <= set(search_form)
