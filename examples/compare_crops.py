"""Are these two crops one person? A distance, a probability with its source, and warnings."""

from itertools import pairwise

import resolute as rs

model = rs.load("ftwa-drawn")  # comes with the package; learnt from drawn people alone

# Drawn people stand in for your crops: sharp ones of camera 0, small ones of camera 1.
people = rs.open_split(rs.recipe("ftwa", "mlr-synthetic", "quickstart").data)
sharp = {record.pid: record.source.pixels() for record in people.gallery}
small = {record.pid: record.source.pixels() for record in people.query}
pids = sorted(sharp)[:12]

same = [rs.compare(small[pid], sharp[pid], model=model) for pid in pids]
others = [rs.compare(small[a], sharp[b], model=model) for a, b in pairwise(pids)]

first = same[0]
print(f"distance {first.distance:.3f}, probability {first.probability:.2f}")
print(f"crops of {first.a.native_size} and {first.b.native_size} pixels (height, width)")
print(f"calibrated on {first.calibrated_on}")

tiny = sharp[pids[0]][::8, ::8]  # hardly a person any more
told = rs.compare(tiny, sharp[pids[0]], model=model)
print("warnings:", *told.warnings, sep="\n  ")

nearer = sum(c.distance for c in same) / len(same) < sum(c.distance for c in others) / len(others)
assert nearer, "crops of one person should be nearer than crops of two"
assert told.warnings, "a crop of 16 pixels should come with a warning"
