"""Which settings tell the cells of one table apart."""

# They have places of their own in a cell's name.
OF_CELL = ("name", "data.name", "data.trial", "train.seed", "model.weights")
