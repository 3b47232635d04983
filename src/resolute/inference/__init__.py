"""Load a model and embed images."""
