"""Train FTWA on drawn people for a few seconds and read its scores by rate."""

import tempfile
from pathlib import Path

import resolute as rs

config = rs.recipe("ftwa", "mlr-synthetic", "quickstart")
config = rs.override(config, {"train.epochs": 2, "data.synthetic.num_identities": 64})
run = Path(tempfile.mkdtemp()) / "run"
rs.train(config, run)
scores = rs.evaluate(run).scores

report = scores["protocol"]
print(f"Rank-1 {report.ranks[1]:.1%}, mAP {report.mean_ap:.1%} under {report.protocol}")
for rate, cell in report.per_rate.items():
    print(f"  queries shrunk by {rate}: Rank-1 {cell.rank1:.1%}")
print(f"  a rate not in training, 8: Rank-1 {scores['r=8'].ranks[1]:.1%}")
print("beside the run:", *sorted(path.name for path in run.iterdir()))

assert 0 < report.ranks[1] <= report.ranks[10] <= 1
