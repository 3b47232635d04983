"""Networks: tensors in, tensors out, no labels and no losses."""
