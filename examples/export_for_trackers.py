"""Write an ONNX file and use it as a tracker would: with onnxruntime and numpy alone."""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import resolute as rs
from resolute.export.artifact import export
from resolute.export.config import ExportConfig

people = rs.open_split(rs.recipe("ftwa", "mlr-synthetic", "quickstart").data)
crops = {}
for record in people.gallery:
    crops.setdefault(record.pid, []).append(record.source.pixels())
pictures = [picture for own in list(crops.values())[:20] for picture in own[:2]]

out = Path(tempfile.mkdtemp())
(written,) = export("ftwa-drawn", ExportConfig(preset=("unit-rgb",), branch="hr"), out=out)
print("wrote", *(path.name for path in written.files))

# From here on nothing of this library is needed.
session = onnxruntime.InferenceSession(written.files[0])
height, width = session.get_inputs()[0].shape[2:]
batch = np.stack([np.asarray(Image.fromarray(p).resize((width, height))) for p in pictures])
images = batch.transpose(0, 3, 1, 2).astype(np.float32) / 255  # RGB, 0..1
(features,) = session.run(["output0"], {"images": images})

similarity = features @ features.T
np.fill_diagonal(similarity, -1)
right = similarity.argmax(axis=1) == np.arange(len(pictures)) ^ 1
print(f"{right.sum()} of {len(right)} crops are nearest to the same person's other crop")
assert right.mean() > 0.5
