"""Protocols and metrics, numpy only."""
