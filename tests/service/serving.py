"""A small untrained model, a gallery of drawn people, and a client that talks to the app."""

import io
import socket
import threading
from dataclasses import replace

import httpx
import uvicorn
from inference.small import person, save_small
from PIL import Image
from waiting import wait_until

from resolute.inference.calibration import Calibration, Curve
from resolute.inference.load import load
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.thumbnails import thumbnail_of
from resolute.retrieval.types import Item, VectorSpace
from resolute.service.app import build_app
from resolute.service.config import ServeConfig
from resolute.service.desk import Desk
from resolute.service.server import impatient

NUM_PEOPLE = 6
START = 1_760_000_000.0  # seconds since the epoch


def small_model(folder, *, seed=0, is_calibrated=False):
    model = load(save_small(folder / f"run{seed}", seed=seed))
    if not is_calibrated:
        return model
    curve = Curve(kind="logistic", distances=(0.0, 1.0), log_odds=(6.0, -6.0), limit=5.0)
    calibration = Calibration(
        data="drawn people", fingerprint=model.fingerprint, metric="sqeuclidean",
        fusion="weighted", prior=0.1, curve=curve, num_same=9, num_different=90,
        heights=(32.0, 96.0, 160.0), log_loss=0.5, log_loss_other=0.5, thresholds=(),
        reliability=None,
    )  # fmt: skip
    return replace(model, calibration=calibration)


def fill(folder, model, *, retention_days=None, start=START):
    """Two images of each of six people, one per camera, an hour apart."""
    people = [(pid, camid) for pid in range(1, NUM_PEOPLE + 1) for camid in (0, 1)]
    pixels = [person(pid, camid) for pid, camid in people]
    embedding = model.embed(pixels)
    space = VectorSpace.of(embedding)
    with Gallery.create(folder, space=space, retention_days=retention_days) as gallery:
        gallery.add(
            [
                Item(
                    key=f"cam{camid}/{pid:04d}.png",
                    camera=f"cam{camid}",
                    time=start + 3600.0 * i,
                    thumbnail=thumbnail_of(pixels[i]),
                )
                for i, (pid, camid) in enumerate(people)
            ],
            embedding,
        )
    return folder


def encoded(pixels, kind="PNG", **more):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **more)
    return stream.getvalue()


def drawn(pid, camid=0, index=0, **more):
    return encoded(person(pid, camid, index), **more)


def images(*contents, field="image"):
    return [(field, ("name that must not be used.png", c, "image/png")) for c in contents]


class Served(httpx.Client):
    """A client of a server that runs in a thread; ``desk`` is what answers."""

    def __init__(self, folder, model, *, token=None, audit_folder=None, **settings):
        config = ServeConfig(port=0, **settings)
        self.desk = Desk(folder, model, config=config, audit_folder=audit_folder)
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        app = build_app(self.desk, token=token)
        self._server = uvicorn.Server(
            uvicorn.Config(app, http=impatient(config), log_config=None, access_log=False)
        )
        # A daemon: a server that does not start must not keep the tests from ending.
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )
        super().__init__(base_url=self.url, trust_env=False, timeout=30)

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: self._server.started)
        return super().__enter__()

    def __exit__(self, *exc):
        super().__exit__(*exc)
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


def code(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, whose form is always the same."""
    (error,) = response.json().values()
    assert set(error) == {"code", "message"}
    assert error["message"]
    return response.status_code, error["code"]
