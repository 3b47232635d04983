"""The rows of the paper's Table 2 and their controls, as settings."""

from resolute.methods.config import FTWAConfig

# A gain is stated against the row that differs in one thing: against Baseline a part of it is
# only augmentation [ours].
VARIANTS: dict[str, FTWAConfig] = {
    "baseline": FTWAConfig(encoders=1, spaces=1, twins=False),
    "baseline-twins": FTWAConfig(encoders=1, spaces=1),
    "ftwa_b": FTWAConfig(spaces=1, twins=False),
    "ftwa_b-twins": FTWAConfig(spaces=1),
    "ftwa_r-not": FTWAConfig(transform="identity", evaluator="ones"),
    "ftwa_r": FTWAConfig(evaluator="ones"),
    "ftwa-const": FTWAConfig(evaluator="constant"),
    "ftwa": FTWAConfig(),
}

TITLES: dict[str, str] = {
    "baseline": "Baseline: one encoder, cross entropy and triplet on images as given",
    "baseline-twins": "Baseline-twins: the same, trained on the LR twins too",
    "ftwa_b": "FTWA_B: two encoders, one space",
    "ftwa_b-twins": "FTWA_B-twins: the same, trained on the LR twins too",
    "ftwa_r-not": "FTWA_R-noT: FTWA_R with T replaced by the identity",
    "ftwa_r": "FTWA_R: FTWA with every quality 1",
    "ftwa-const": "FTWA-const: FTWA matched with mean qualities",
    "ftwa": "FTWA: the whole method",
}
