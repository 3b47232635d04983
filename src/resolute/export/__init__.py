"""Turn a trained model into files that other programs run."""
