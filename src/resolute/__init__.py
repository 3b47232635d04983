"""Resolute: person re-identification across camera resolutions."""
