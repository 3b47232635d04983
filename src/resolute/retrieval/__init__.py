"""Search galleries of embeddings: exact, durable, erasable; imports no torch."""
