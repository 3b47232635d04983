"""Read data sets, lose resolution in one place, and feed batches."""
