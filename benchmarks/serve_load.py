r"""Clients that search with uploads, all at once, against a server of its own on loopback.

    python benchmarks/serve_load.py [--clients 50] [--seconds 60] [--images 1000] \
        [--model RUN --gallery GALLERY]

Without a model it makes an untrained FTWA (OSNet x0.25, 128x64) and a gallery of drawn people: the
work is that of a trained one. The server is a process of its own and shares the cores with the
clients, so its figures are a lower bound. Every client sends its next search when the last one is
answered. A request counts as an error unless it is answered with 200.
"""

import argparse
import asyncio
import io
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import httpx
from PIL import Image

from resolute.core.config import to_mapping
from resolute.core.rng import Streams
from resolute.core.types import InputSpec
from resolute.data.synthetic import SyntheticSource
from resolute.inference.load import load
from resolute.inference.model_file import save_model
from resolute.methods.catalogue import METHODS
from resolute.recipes.catalogue import find_recipe
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.thumbnails import thumbnail_of
from resolute.retrieval.types import Item, VectorSpace


def make_model(folder: Path) -> Path:
    """Save an untrained model."""
    config = find_recipe("ftwa", "mlr-synthetic", "quickstart")
    blueprint = config.blueprint(num_identities=3, height_reference=128.0)
    method, _ = METHODS["ftwa"](blueprint, streams=Streams(0))
    spec = InputSpec(height=config.model.height, width=config.model.width)
    folder.mkdir(parents=True)
    save_model(
        folder / "model.safetensors",
        method,
        {
            "blueprint": blueprint.to_mapping(),
            "config": to_mapping(config),
            "input_spec": asdict(spec),
        },
    )
    return folder


def make_gallery(folder: Path, run: Path, num_images: int) -> Path:
    """Store drawn people, one image each."""
    model = load(run)
    with Gallery.create(
        folder,
        space=VectorSpace.of(model.embed(_draw(1))),
    ) as gallery:
        for start in range(0, num_images, 256):
            people = range(start, min(start + 256, num_images))
            drawn = [_draw(pid + 1) for pid in people]
            items = [
                Item(key=f"{pid:06d}.jpg", camera="cam0", thumbnail=thumbnail_of(pixels))
                for pid, pixels in zip(people, drawn, strict=True)
            ]
            gallery.add(items, model.embed(drawn))
    return folder


async def load_it(url: str, num_clients: int, seconds: float) -> None:
    """Search from all clients until the time is over, and print what came."""
    crops = [_jpeg(_draw(pid, camid=1)) for pid in range(1, 33)]
    took: list[float] = []
    failed: Counter[str] = Counter()
    begin = time.perf_counter()

    async def client(number: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
            turn = number
            while time.perf_counter() - begin < seconds:
                crop = crops[turn % len(crops)]
                turn += 1
                start = time.perf_counter()
                try:
                    reply = await http.post(
                        "/v1/search", files={"image": ("a", crop)}, data={"k": "20"}
                    )
                except httpx.HTTPError as error:
                    failed[type(error).__name__] += 1
                    continue
                if reply.status_code == 200 and len(reply.json()["hits"]) == 20:
                    took.append(time.perf_counter() - start)
                else:
                    failed[str(reply.status_code)] += 1

    await asyncio.gather(*(client(number) for number in range(num_clients)))
    wall = time.perf_counter() - begin
    print(
        f"{num_clients} clients, {wall:.1f} s: {len(took)} searches, {len(took) / wall:.1f} per s"
    )
    print(f"errors: {sum(failed.values())} {dict(failed) or ''}")
    if len(took) > 20:
        cuts = statistics.quantiles(took, n=100)
        print(
            f"p50 {1000 * cuts[49]:.0f} ms, p95 {1000 * cuts[94]:.0f} ms, "
            f"max {1000 * max(took):.0f} ms"
        )


def main() -> None:
    """Start a server, load it, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--gallery", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run = options.model or make_model(Path(name) / "run")
        gallery = options.gallery or make_gallery(Path(name) / "gallery", run, options.images)
        words = [sys.executable, "-m", "resolute", "serve", str(gallery), "--model", str(run)]
        log = Path(name) / "log"
        with (
            log.open("wb") as stream,
            subprocess.Popen(
                [*words, "--port", "0", "--rate", "0", "--audit", f"{name}/audit"], stderr=stream
            ) as server,
        ):
            while not (found := [line for line in log.read_text().splitlines() if "http:" in line]):
                if server.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.1)
            url = json.loads(found[0])["url"]
            time.sleep(0.5)
            asyncio.run(load_it(url, options.clients, options.seconds))
            server.send_signal(signal.SIGTERM)
        print(f"server left with {server.returncode}")


def _draw(pid: int, camid: int = 0):  # noqa: ANN202
    return SyntheticSource(seed=5, pid=pid, camid=camid, index=0).pixels()


def _jpeg(pixels) -> bytes:  # noqa: ANN001
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=90)
    return stream.getvalue()


if __name__ == "__main__":
    main()
