"""Train: configuration, loop, checkpoints."""
