"""Exhibits made of random numbers, without training anything."""

from dataclasses import dataclass, replace

import numpy as np
from report.literal import embedding, labels

from resolute.core.rng import Streams
from resolute.core.types import Record, Resolution
from resolute.data.cache import PixelStore
from resolute.evaluation.protocol import PROTOCOLS
from resolute.report.curves import Scalar
from resolute.report.exhibit import Exhibit, Qualities
from resolute.report.material import pick_queries
from resolute.report.strips import Side, make_strip
from resolute.report.survey import survey

BAD_KEY = '<script>alert("x")</script>/a&b\' "\x00\u202e.png'


@dataclass(frozen=True)
class Colours:
    """Random pixels of a size."""

    height: int
    seed: int

    def pixels(self):
        shape = (self.height, max(1, self.height // 2), 3)
        return np.random.default_rng(self.seed).integers(0, 256, shape).astype(np.uint8)

    def token(self):
        return f"colours {self.height} {self.seed}"


def side(rng, pids, camid, heights, *, streams, fusion="weighted", rates=None, key="img"):
    is_lr = camid == 1
    records = tuple(
        Record(
            key=f"{key}/{i:03d}.png" if i else BAD_KEY,
            pid=int(pid),
            camid=camid,
            resolution=Resolution.LR if is_lr else Resolution.HR,
            source=Colours(int(height), 100 * camid + i),
        )
        for i, (pid, height) in enumerate(zip(pids, heights, strict=True))
    )
    return Side(
        records=records,
        store=PixelStore.open(records),
        embedding=embedding(rng, len(pids), streams=streams, fusion=fusion),
        labels=labels(pids, camid, rates=rates, heights=heights),
    )


def sides(seed=0, *, streams=2, people=12, fusion="weighted"):
    rng = np.random.default_rng(seed)
    pids = np.arange(1, people + 1)
    rates = np.resize([2.0, 3.0, 4.0], people)
    query = side(
        rng, pids, 1, (128 // rates).astype(int), streams=streams, fusion=fusion, rates=rates
    )
    gallery_pids = np.repeat(pids, 2)
    gallery = side(
        rng, gallery_pids, 0, np.full(2 * people, 128), streams=streams, fusion=fusion, key="g"
    )
    return query, gallery


def made(seed=0, *, streams=2, method="ftwa", trial=0, name="run", fusion="weighted", **changes):
    query, gallery = sides(seed, streams=streams, fusion=fusion)
    found = survey(
        PROTOCOLS["mlr"],
        (query.embedding, query.labels),
        (gallery.embedding, gallery.labels),
        streams=Streams(0),
        trial=trial,
        top=5,
    )
    qualities = None
    if streams == 2:
        qualities = Qualities(
            is_lr=np.repeat([True, False], [len(query.records), len(gallery.records)]),
            heights=np.concatenate([query.labels.heights, gallery.labels.heights]),
            quality=np.concatenate([query.embedding.quality, gallery.embedding.quality]),
        )
    picked = pick_queries(found.list_ranks, found.margins, 2)
    steps = np.arange(1.0, 9.0)
    exhibit = Exhibit(
        name=name,
        method=method,
        is_trained=True,
        start="random",
        benchmark="mlr-made/default/lr=cam1",
        trial=trial,
        seed=0,
        fusion=fusion,
        num_streams=streams,
        scores={"protocol": found.report, "r=8": found.report, "hr": found.report},
        found=found,
        heights=query.labels.heights,
        rates=query.labels.rates,
        qualities=qualities,
        strips={
            kind: tuple(make_strip(query, gallery, found, at) for at in positions)
            for kind, positions in picked.items()
        },
        curves={
            "losses/identity": Scalar(steps=steps, values=10 / steps),
            "learning_rate": Scalar(steps=steps[:1], values=steps[:1]),
        },
        provenance={
            "data": "mlr-made",
            "training": {"steps": 8},
            "command": "resolute train ftwa --data.root ROOT",
            "settings": {"name": "ftwa", "data": {"name": "mlr-made", "root": "", "trial": trial}},
        },
        notes=("a note with <b> in it",),
    )
    return replace(exhibit, **changes)
