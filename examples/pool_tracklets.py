"""Several crops of one person as one query: the small ones count less."""

import numpy as np

import resolute as rs
from resolute.core.distance import distance_matrix
from resolute.inference.pooling import pool

model = rs.load("ftwa-drawn")
people = rs.open_split(rs.recipe("ftwa", "mlr-synthetic", "quickstart").data)
gallery_records = people.gallery[:240]
known = {record.pid for record in gallery_records}
query_records = [record for record in people.query if record.pid in known]
gallery = model.embed([record.source.pixels() for record in gallery_records])
single = model.embed([record.source.pixels() for record in query_records])
pids = np.array([record.pid for record in query_records])
pooled = pool(single, pids)  # one embedding per person, in the order of their numbers


def rank1(queries: rs.Embedding, owners: np.ndarray) -> float:
    """Return the share of queries whose nearest gallery image shows their person."""
    nearest = distance_matrix(queries, gallery).argmin(axis=1)
    return float(
        np.mean([gallery_records[n].pid == o for n, o in zip(nearest, owners, strict=True)])
    )


alone, together = rank1(single, pids), rank1(pooled, np.unique(pids))
print(f"Rank-1 of single crops {alone:.1%}, of whole tracks {together:.1%}")
assert together > alone
