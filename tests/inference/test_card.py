import json

from inference.small import save_small
from inference.test_load import calibration

from resolute.inference.card import model_card, write_card
from resolute.inference.load import load
from resolute.inference.model_file import read_metadata


def test_card_says_what_is_known_and_what_is_not(tmp_path):
    run = save_small(tmp_path / "run")
    metadata = read_metadata(run / "model.safetensors")
    bare = model_card(metadata)
    for words in ("Intended use", "Excluded uses", "not trained here", "Not scored yet", "None:"):
        assert words in bare
    trained = {**metadata, "training": {"steps": 9}, "split": "mlr-viper/trial0"}
    report = {
        "cmc": [0.5], "ap": "step", "mean_ap_step": 0.4, "num_valid": 12,
        "per_height": {"24-31": {"count": 3, "rank1": 0.25}},
    }  # fmt: skip
    result = {"data": "mlr-viper/trial0", "scores": {"protocol": report}}
    card = model_card(trained, result=result, calibration=calibration(load(run)))
    for words in ("trained here on mlr-viper/trial0", "| 12 | 50.0 | 40.0 |", "height 24-31",
                  "Fitted on drawn people", "prior of 0.5"):  # fmt: skip
        assert words in card, words
    assert write_card(run).read_text() == bare
    json.dumps(metadata)
