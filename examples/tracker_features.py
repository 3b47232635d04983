"""Features for a tracker: boxes in a BGR frame, as BoxMOT asks for them."""

import numpy as np

import resolute as rs
from resolute.inference.shims import TrackerFeatures

people = rs.open_split(rs.recipe("ftwa", "mlr-synthetic", "quickstart").data)
crops = {}  # two sharp crops of each of four people
for record in people.gallery:
    crops.setdefault(record.pid, []).append(record.source.pixels())
crops = dict(list(crops.items())[:4])

# A frame with everyone standing side by side, in OpenCV's channel order.
frame = np.full((420, 1600, 3), 90, dtype=np.uint8)
boxes, pids, left = [], [], 10
for pid, pictures in crops.items():
    for picture in pictures[:2]:
        height, width = picture.shape[:2]
        frame[40 : 40 + height, left : left + width] = picture[:, :, ::-1]
        boxes.append((left, 40, left + width, 40 + height))
        pids.append(pid)
        left += width + 20

tracker = TrackerFeatures(rs.load("ftwa-drawn"))
features = tracker.get_features(np.array(boxes), frame)  # (N, D) float32, length 1
print(features.shape, features.dtype)

similarity = features @ features.T
np.fill_diagonal(similarity, -1)
right = [pids[j] == pid for pid, j in zip(pids, similarity.argmax(axis=1), strict=True)]
print(f"{sum(right)} of {len(right)} crops are nearest to the same person's other crop")
assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
assert sum(right) > len(right) / 2
