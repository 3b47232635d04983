"""A recipe is a function that returns the complete settings of a run."""
