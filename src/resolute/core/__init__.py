"""What every other package may import: types, errors, random streams, distances."""
