"""Index sharp crops in a gallery on disk, search it with small ones, erase what must go."""

import tempfile
from pathlib import Path

import resolute as rs
from resolute.retrieval.types import Item, VectorSpace, Where

model = rs.load("ftwa-drawn")
people = rs.open_split(rs.recipe("ftwa", "mlr-synthetic", "quickstart").data)
sharp, small = people.gallery[:90], people.query[:60]
embedding = model.embed([record.source.pixels() for record in sharp])
items = [Item(key=record.key, camera=f"door-{record.camid}") for record in sharp]

folder = Path(tempfile.mkdtemp()) / "gallery"
space = VectorSpace.of(embedding)
with rs.Gallery.create(folder, space=space, retention_days=30) as gallery:
    gallery.add(items, embedding)

queries = model.embed([record.source.pixels() for record in small], resolution="lr")
with rs.Gallery.open(folder, fingerprint=model.fingerprint) as gallery:
    answers = gallery.search(queries, k=10, where=Where(not_camera="door-1"))
    best = answers[0].hits[0]
    print(f"{best.key}: distance {best.distance:.3f}, HR space counts {best.hr_share:.0%}")
    print("proven exact:", answers[0].exact)

    gallery.delete([best.key])
    gallery.purge()  # now its bytes are gone from the disk
    assert best.key not in gallery

pid_of = {record.key: record.pid for record in sharp}
found = [
    record.pid in {pid_of[hit.key] for hit in answer.hits}
    for record, answer in zip(small, answers, strict=True)
    if record.pid in pid_of.values()
]
print(f"{sum(found)} of {len(found)} people among their first ten")
assert sum(found) > len(found) / 2, "a guess finds one in three"
